#include "sinopia/backend/axes.h"

#include <array>

namespace sinopia {
namespace {

using Steps = std::array<int64_t, Shape::kMaxRank>;

/// Of the axes of y in an operand that broadcasts to it.
Steps broadcast_steps(const Shape& operand, const Shape& y) {
  Steps result{};
  int64_t step = 1;
  for (int back = 1; back <= operand.rank(); ++back) {
    const int64_t extent = operand.dim(-back);
    result[static_cast<size_t>(y.rank() - back)] = extent == 1 ? 0 : step;
    step *= extent;
  }
  return result;
}

}  // namespace

std::vector<PermutedAxis> permuted_axes(const Shape& x, std::span<const int> axes) {
  Steps x_steps{};
  int64_t step = 1;
  for (int i = x.rank() - 1; i >= 0; --i) {
    x_steps[static_cast<size_t>(i)] = step;
    step *= x.dim(i);
  }
  std::vector<PermutedAxis> result;
  for (int axis : axes) {
    const PermutedAxis next{x.dim(axis), x_steps[static_cast<size_t>(axis)], 0};
    if (next.extent == 1) continue;
    if (!result.empty() && result.back().x_step == next.extent * next.x_step) {
      result.back() = {result.back().extent * next.extent, next.x_step, 0};
    } else {
      result.push_back(next);
    }
  }
  if (result.empty()) result.push_back({1, 1, 0});
  step = 1;
  for (auto axis = result.rbegin(); axis != result.rend(); ++axis) {
    axis->y_step = step;
    step *= axis->extent;
  }
  return result;
}

std::vector<BroadcastAxis> broadcast_axes(const Shape& a, const Shape& b, const Shape& y) {
  const Steps a_steps = broadcast_steps(a, y), b_steps = broadcast_steps(b, y);
  std::vector<BroadcastAxis> result;
  for (int axis = y.rank() - 1; axis >= 0; --axis) {
    const auto i = static_cast<size_t>(axis);
    const BroadcastAxis next{y.dim(axis), a_steps[i], b_steps[i]};
    if (next.extent == 1) continue;
    if (!result.empty()) {
      BroadcastAxis& last = result.back();
      if (next.a_step == last.a_step * last.extent && next.b_step == last.b_step * last.extent) {
        last.extent *= next.extent;
        continue;
      }
    }
    result.push_back(next);
  }
  if (result.empty()) result.push_back({1, 1, 1});
  return result;
}

}  // namespace sinopia
