#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "sinopia/tensor/random.h"

namespace sinopia {

/// Standard normal noise [N,H,W,C] for the way between two levels. Independent draws ignore the levels; a
/// Brownian path gives the same noise for the same levels whatever the steps.
using NoiseSource = std::function<Tensor(double sigma_from, double sigma_to)>;

/// One draw of [H,W,C] per image and call, image i from generators[i]: image i of a batch is what it is
/// alone. `shape` is [N,H,W,C]; throws InvalidArgument unless there are N generators. The source shares the
/// generators.
NoiseSource independent_noise(std::vector<std::shared_ptr<NoiseGenerator>> generators, const Shape& shape);

}  // namespace sinopia
