#pragma once

#include "sinopia/backend/cpu/gemm.h"
#include "sinopia/backend/cpu/gemm_plan.h"

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

/// The tiles of `side` x `side` outputs that a convolution's pictures fall into, row by row, picture after
/// picture; those at the right and below reach beyond the picture.
struct WinogradTiles {
  struct Place {
    int64_t image, y, x;  // of its first output
  };
  int64_t side, rows, columns, count;  // down, across, in all

  WinogradTiles(const Patches& patches, int64_t images, int64_t tile)
      : side(tile),
        rows(divide_up(patches.out_height, tile)),
        columns(divide_up(patches.out_width, tile)),
        count(images * rows * columns) {}

  Place place(int64_t index) const {
    const int64_t in_image = index % (rows * columns);
    return {index / (rows * columns), in_image / columns * side, in_image % columns * side};
  }
};

/// A 3x3 convolution of stride 1 by minimal filtering (Lavin and Gray 2015): outputs in tiles of `tile` x
/// `tile`, 2 or 4, each from (tile + 2)^2 products of transformed pixels and weights where the sum over the
/// kernel takes 9 tile^2. problem.patches must be set; w is [N,I,3,3]. With 4 the points are 0, +-sqrt(1/2),
/// +-sqrt(2) and infinity, whose error is about 2e-6 of the largest output.
void winograd(const GemmProblem& problem, int tile);

/// What a 3x3 convolution of stride 1 takes by either way, in multiply-adds of the direct one's inner loop.
double winograd_cost(const GemmProblem& problem, int tile);
double direct_cost(const GemmProblem& problem);

}  // namespace sinopia
