#pragma once

#include <cstddef>
#include <cstdint>

#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// A parameter of a network on a GPU that comes when it is first used and may leave when memory is short: in
/// `dtype` there, a quantised one as it is. `host`, often in a mapped file, must stay as it is. Its address
/// holds for the kernel that is called next, and for as long as a recording reads it. Which leave: those that
/// have been used once only, least recently used first; then those that, going by how often they were used,
/// are needed last. Where they come back again and again, the next ones are uploaded while the device works
/// on those before.
Tensor store_parameter(const Tensor& host, Device device, DType dtype);

/// Gives up all parameters on the device that no recording and no other thread is using at the moment.
/// Nothing on the CPU.
void give_up_parameters(Device device);

/// Of the parameters of a device.
struct ParameterStats {
  size_t bytes = 0;      ///< of all that there are
  size_t resident = 0;   ///< of those that are on the device
  uint64_t uploads = 0;  ///< so far
  uint64_t ahead = 0;    ///< of these, begun before they were asked for
};
ParameterStats parameter_stats(Device device);

}  // namespace sinopia
