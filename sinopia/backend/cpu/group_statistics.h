#pragma once

#include <algorithm>
#include <vector>

#include "sinopia/backend/cpu/cast.h"
#include "sinopia/base/threads.h"
#include "sinopia/tensor/tensor.h"

namespace sinopia {

struct GroupStatistics {
  double mean;
  double factor;  ///< 1 / sqrt(variance + eps)
};

/// Of x [N,..,C], [N, groups]; x has elements.
std::vector<GroupStatistics> group_statistics(const Tensor& x, int groups, float eps);

inline constexpr int64_t kBlockPixels = 256;

/// run(image, first pixel, pixels) on blocks of at most kBlockPixels pixels of x [N,..,C], in parallel.
template <class Run>
void for_blocks(const Tensor& x, const Run& run) {
  const int64_t N = x.dim(0), C = x.dim(-1), P = x.numel() / (N * C);
  const int64_t blocks = (P + kBlockPixels - 1) / kBlockPixels;
  parallel_for(N * blocks, std::max<int64_t>(1, kMemoryGrain / (kBlockPixels * C)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) {
                   const int64_t p = i % blocks * kBlockPixels;
                   run(i / blocks, p, std::min(kBlockPixels, P - p));
                 }
               });
}

}  // namespace sinopia
