#pragma once

#include "sinopia/tensor/tensor.h"

namespace sinopia::bench {

/// Uniform in [-1,1], the same for the same shape.
Tensor random_tensor(const Shape& shape, DType dtype = DType::F32);

}  // namespace sinopia::bench
