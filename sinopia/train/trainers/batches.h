#pragma once

#include <span>

#include "sinopia/tensor/tensor.h"
#include "sinopia/train/draws.h"

namespace sinopia {

/// Tensors of one shape S as [N,S..].
Tensor stacked(std::span<const Tensor> tensors);

/// N(0,1) of this shape; sample i of the first axis draws at (seed, purpose, number, i).
Tensor drawn_noise(const Shape& shape, uint64_t seed, Purpose purpose, int64_t number);

}  // namespace sinopia
