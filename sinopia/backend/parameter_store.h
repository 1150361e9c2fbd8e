#pragma once

#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// A parameter of a network on a GPU that comes when it is first used and may leave when memory is short: in
/// `dtype` there, a quantised one as it is. `host`, often in a mapped file, must stay as it is.
Tensor store_parameter(const Tensor& host, Device device, DType dtype);

/// Gives up all parameters on the device that nothing is using at the moment. Nothing on the CPU.
void give_up_parameters(Device device);

}  // namespace sinopia
