#pragma once

#include "sinopia/backend/cpu/gemm.h"

namespace sinopia {

/// A 3x3 convolution of stride 1, and the gradient dy [N,OH,OW,O] of what it gives for x [N,H,W,I].
struct WeightGradientProblem {
  const Patches& patches;
  int64_t images, outputs;  // N, O
  const float* x;
  const float* dy;
  float* dw;  // [O,I,3,3]
};

/// The gradient of its weights by minimal filtering with tiles of `tile` x `tile` outputs, 2 or 4: the
/// transforms of winograd() transposed, with products that sum over the tiles. The same bits for any number
/// of threads.
void winograd_weight_gradient(const WeightGradientProblem& problem, int tile);

/// What it takes by either way, in multiply-adds of the direct one's inner loop.
double winograd_gradient_cost(const WeightGradientProblem& problem, int tile);
double direct_gradient_cost(const WeightGradientProblem& problem);

}  // namespace sinopia
