#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sinopia/tensor/shape.h"

namespace sinopia {

// Axes as kernels walk through them: without those of extent 1, and with neighbours joined to one where every
// operand walks through both in one go. There is always at least one. Steps are in elements.

/// An axis of y = permute(x).
struct PermutedAxis {
  int64_t extent, x_step, y_step;
};
/// Slowest of y first; axis i of y is axis axes[i] of x.
std::vector<PermutedAxis> permuted_axes(const Shape& x, std::span<const int> axes);

/// An axis of y = a op b; 0 where an operand is repeated.
struct BroadcastAxis {
  int64_t extent, a_step, b_step;
};
/// Fastest first.
std::vector<BroadcastAxis> broadcast_axes(const Shape& a, const Shape& b, const Shape& y);

}  // namespace sinopia
