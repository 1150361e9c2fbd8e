#pragma once

#include <algorithm>
#include <functional>
#include <vector>

#include "sinopia/autograd/tape.h"
#include "sinopia/ops/elementwise.h"
#include "tests/instruction_sets.h"
#include "tests/reference.h"

namespace sinopia::testing {

using Doubles = std::vector<double>;

/// Holds the gradients of `op` to central differences of `exact`, the same function in double, for a random
/// dy: within `tolerance` of the largest gradient of that input, and an ulp of the largest dy, since slopes
/// near 0 are differences of terms near 1. All elements are tried, or 150 of them. On every instruction set,
/// and with the same bits for any number of threads.
inline void check_gradients(const std::vector<Tensor>& inputs,
                            const std::function<Tensor(const std::vector<Tensor>&)>& op,
                            const std::function<Doubles(const std::vector<Doubles>&)>& exact,
                            double tolerance = 2e-6) {
  std::vector<Doubles> x;
  for (const Tensor& input : inputs) x.push_back(doubles(input));
  const Tensor shape_of_y = op(inputs);
  const Tensor dy = random_tensor(shape_of_y.shape(), 4711);
  const Doubles weights = doubles(dy);
  double largest_dy = 0;
  for (const double w : weights) largest_dy = std::max(largest_dy, std::abs(w));
  const auto objective = [&] {
    const Doubles y = exact(x);
    EXPECT_EQ(y.size(), weights.size());
    double sum = 0;
    for (size_t i = 0; i < y.size(); ++i) sum += weights[i] * y[i];
    return sum;
  };
  const auto gradients_of_op = [&] {
    std::vector<Tensor> leaves;
    for (const Tensor& input : inputs) leaves.push_back(make_leaf(input));
    const RecordGradients on;
    const Tensor y = op(leaves);
    EXPECT_TRUE(wants_gradient(y));
    if (wants_gradient(y)) backward(y, dy);
    std::vector<Tensor> result;
    for (const Tensor& leaf : leaves) result.push_back(gradient_of(leaf));
    return result;
  };
  std::vector<Doubles> differences(inputs.size());
  std::vector<std::vector<size_t>> places(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const size_t step = std::max<size_t>(1, x[i].size() / 150);
    for (size_t at = 0; at < x[i].size(); at += step) {
      const double before = x[i][at], h = 1e-5 * std::max(1.0, std::abs(before));
      x[i][at] = before + h;
      const double above = objective();
      x[i][at] = before - h;
      const double below = objective();
      x[i][at] = before;
      differences[i].push_back((above - below) / (2 * h));
      places[i].push_back(at);
    }
  }
  for_each_instruction_set([&] {
    const std::vector<Tensor> gradients = gradients_of_op();
    for (size_t i = 0; i < inputs.size(); ++i) {
      SCOPED_TRACE("gradient of input " + std::to_string(i));
      ASSERT_TRUE(gradients[i].defined());
      ASSERT_EQ(gradients[i].shape(), inputs[i].shape());
      const Doubles ours = doubles(gradients[i]);
      double largest = 0;
      for (const double g : differences[i]) largest = std::max(largest, std::abs(g));
      for (size_t k = 0; k < places[i].size(); ++k)
        ASSERT_NEAR(ours[places[i][k]], differences[i][k], tolerance * largest + 2 * kEpsilon * largest_dy)
            << "at " << places[i][k];
    }
  });
  for (size_t i = 0; i < inputs.size(); ++i)
    expect_same_for_any_thread_count([&] { return gradients_of_op()[i]; });
}

}  // namespace sinopia::testing
