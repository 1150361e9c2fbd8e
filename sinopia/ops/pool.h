#pragma once

#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// x [N,H,W,C] -> [N,H/2,W/2,C], rounded down: the largest of each 2x2 pixels, as VGG has it. The gradient of
/// equal ones is shared among them.
Tensor max_pool2(const Tensor& x);

}  // namespace sinopia
