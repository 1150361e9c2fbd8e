#pragma once

#include <algorithm>
#include <random>
#include <vector>

#include "sinopia/io/tensor_map.h"
#include "sinopia/ops/shape.h"
#include "tests/cuda/on_gpu.h"

namespace sinopia::testing {

/// Weights, each off by one rounding to `dtype` up or down.
inline TensorMap perturbed(TensorMap weights, DType dtype, unsigned seed) {
  std::mt19937 engine(seed);
  const auto epsilon = static_cast<float>(epsilon_of(dtype));
  for (auto& [name, weight] : weights) {
    std::vector<float> values = to_dtype(weight, DType::F32).to_vector<float>();
    for (float& v : values) v *= 1 + (engine() & 1 ? epsilon : -epsilon);
    weight = Tensor::from(weight.shape(), values);
  }
  return weights;
}

/// What a network in halves may be off by: it rounds its weights, by half as much on the average, and what
/// lies between its layers some times each. Deep networks of random weights carry such errors far, each as it
/// likes, so that the bound is twice what the worst of three perturbations of the weights alone does to the
/// CPU's result. `error_of(weights)` is that result's distance from the one that is expected.
template <class ErrorOf>
double rounding_tolerance(const TensorMap& weights, DType dtype, const ErrorOf& error_of) {
  double worst = 0;
  for (const unsigned seed : {1u, 2u, 3u}) worst = std::max(worst, error_of(perturbed(weights, dtype, seed)));
  return 2 * worst;
}

}  // namespace sinopia::testing
