#pragma once

#include "sinopia/backend/cpu/gemm.h"

namespace sinopia {

// Tiles of one task: their products stay in the L2 cache, the transformed pixels of all tasks at once in L3.
// Weights are transformed for each task anew, in pieces of kPassingBlockK channels that stay in L2, or once
// for all if there are several tasks and no more than kKeptWeights transformed weights.
inline constexpr int64_t kWinogradTiles = 192, kKeptTiles = 96;
inline constexpr int64_t kPassingBlockK = 96;
inline constexpr int64_t kKeptWeights = 12 << 20;
inline bool keeps_weights(int64_t tiles, int64_t transformed_weights) {
  return tiles > kWinogradTiles && transformed_weights <= kKeptWeights;
}

/// A 3x3 convolution of stride 1 by minimal filtering (Lavin and Gray 2015): outputs in tiles of `tile` x
/// `tile`, 2 or 4, each from (tile + 2)^2 products of transformed pixels and weights where the sum over the
/// kernel takes 9 tile^2. problem.patches must be set; w is [N,I,3,3]. With 4 the points are 0, +-sqrt(1/2),
/// +-sqrt(2) and infinity, whose error is about 2e-6 of the largest output.
void winograd(const GemmProblem& problem, int tile);

/// What a 3x3 convolution of stride 1 takes by either way, in multiply-adds of the direct one's inner loop.
double winograd_cost(const GemmProblem& problem, int tile);
double direct_cost(const GemmProblem& problem);

}  // namespace sinopia
