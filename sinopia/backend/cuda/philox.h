#pragma once

#include <cstdint>

#include "sinopia/tensor/tensor.h"

namespace sinopia::cuda {

/// y = what CudaPhiloxGenerator(seed) draws into as many numbers after `offset` draws, in the order of y's
/// elements, on y's device: one number may differ from the CPU's by a unit in the last place. y is f32, f16
/// or bf16; its numbers are rounded once. As with the generator, a draw of any size is one step of the
/// offset.
void philox_normal(uint64_t seed, uint64_t offset, Tensor& y);

}  // namespace sinopia::cuda
