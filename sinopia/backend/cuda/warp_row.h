#pragma once

#include "sinopia/backend/cuda/map.h"

namespace sinopia::cuda {

/// A row of up to 32 * kRuns * kCount elements in f32 in the registers of a warp: a lane has the runs of
/// kCount neighbours lane, lane + 32, ..
template <class T, int kCount, int kRuns>
struct WarpRow {
  float values[kRuns][kCount];

  __device__ static int lane() { return static_cast<int>(threadIdx.x) % 32; }
  /// Where run r of this lane begins.
  __device__ static int place(int r) { return (r * 32 + lane()) * kCount; }

  /// `otherwise` past the row's D elements; D is a multiple of kCount.
  __device__ void load(const T* row, int D, float otherwise) {
    Run<T, kCount> runs[kRuns];
#pragma unroll
    for (int r = 0; r < kRuns; ++r)
      if (place(r) < D) runs[r] = load_run<T, kCount>(row + place(r));
#pragma unroll
    for (int r = 0; r < kRuns; ++r) {
#pragma unroll
      for (int k = 0; k < kCount; ++k) values[r][k] = place(r) < D ? widen(runs[r].values[k]) : otherwise;
    }
  }
  __device__ void store(T* row, int D) const {
#pragma unroll
    for (int r = 0; r < kRuns; ++r) {
      if (place(r) >= D) continue;
      Run<T, kCount> run;
#pragma unroll
      for (int k = 0; k < kCount; ++k) run.values[k] = narrow_to<T>(values[r][k]);
      store_run(row + place(r), run);
    }
  }
};

/// f(an integral_constant with a number of runs that holds the row): false if none of these does.
template <class T, class F>
bool for_warp_row(int64_t D, F&& f) {
  constexpr int kRun = 32 * run_length(sizeof(T)), kHalves = sizeof(T) == 2;
  constexpr int kFew = kHalves ? 2 : 3, kSome = kHalves ? 5 : 10, kMany = kHalves ? 8 : 16;
  if (D <= kFew * kRun) {
    f(std::integral_constant<int, kFew>{});
  } else if (D <= kSome * kRun) {
    f(std::integral_constant<int, kSome>{});
  } else if (D <= kMany * kRun) {
    f(std::integral_constant<int, kMany>{});
  } else {
    return false;
  }
  return true;
}

/// The blocks' threads where each of `rows` rows has a warp: several warps where there are rows enough.
inline int warp_row_threads(int64_t rows) { return rows >= int64_t{8} * limits().multiprocessors ? 128 : 32; }
/// The row of this thread's warp.
__device__ inline int64_t warp_row() {
  return static_cast<int64_t>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
}

}  // namespace sinopia::cuda
