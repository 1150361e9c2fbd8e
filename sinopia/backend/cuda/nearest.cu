#include <algorithm>
#include <cmath>

#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/backend/cuda/map.h"
#include "sinopia/backend/cuda/runtime.h"

namespace sinopia {
namespace cuda {
namespace {

// A block compares kTile rows of x with kTile rows of the table at a time, a thread four with four.
// Differences are squared as they are and added in the order of the columns: |x|^2 - 2 x y + |y|^2 would lose
// what tells near neighbours apart.
constexpr int kTile = 64, kDepth = 16, kThreads = 256, kEach = 4, kAcross = kTile / kEach;

struct Best {
  float distance;
  int32_t place;
};

__device__ inline Best nearer(const Best& a, const Best& b) {
  return b.distance < a.distance || (b.distance == a.distance && b.place < a.place) ? b : a;
}

/// [kDepth][kTile]: kTile rows of x from `first` on, columns [depth, depth + kDepth); zeros where there are
/// none.
template <class T>
__device__ void stage(const T* x, int64_t rows, int64_t D, int64_t first, int64_t depth,
                      float (&tile)[kDepth][kTile + kEach]) {
  constexpr int kRowsAtOnce = kThreads / kDepth;
  const int i = static_cast<int>(threadIdx.x) % kDepth;
#pragma unroll
  for (int k = 0; k < kTile / kRowsAtOnce; ++k) {
    const int r = k * kRowsAtOnce + static_cast<int>(threadIdx.x) / kDepth;
    const bool inside = first + r < rows && depth + i < D;
    tile[i][r] = inside ? widen(x[(first + r) * D + depth + i]) : 0;
  }
}

/// Of n rows of x, each with the rows of one of gridDim.y parts of the table: the first of the nearest.
template <class T, class W>
__global__ void __launch_bounds__(kThreads)
    nearest_kernel(const T* x, int64_t n, const W* table, int64_t K, int64_t D, int64_t part, Best* best) {
  alignas(16) __shared__ float xs[kDepth][kTile + kEach];
  alignas(16) __shared__ float ys[kDepth][kTile + kEach];
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kTile, from = blockIdx.y * part;
  const int64_t to = from + part < K ? from + part : K;
  const int across = static_cast<int>(threadIdx.x) % kAcross, down = static_cast<int>(threadIdx.x) / kAcross;
  Best own[kEach];
#pragma unroll
  for (int r = 0; r < kEach; ++r) own[r] = {INFINITY, 0};
  for (int64_t tile = from; tile < to; tile += kTile) {
    float sums[kEach][kEach] = {};
    for (int64_t depth = 0; depth < D; depth += kDepth) {
      __syncthreads();
      stage(x, n, D, first, depth, xs);
      stage(table, to, D, tile, depth, ys);
      __syncthreads();
      const auto add = [&](int i) {
        const auto a = load_run<float, kEach>(&xs[i][down * kEach]),
                   b = load_run<float, kEach>(&ys[i][across * kEach]);
#pragma unroll
        for (int r = 0; r < kEach; ++r) {
#pragma unroll
          for (int c = 0; c < kEach; ++c) {
            const float difference = a.values[r] - b.values[c];
            sums[r][c] = fmaf(difference, difference, sums[r][c]);
          }
        }
      };
      if (depth + kDepth <= D) {
#pragma unroll
        for (int i = 0; i < kDepth; ++i) add(i);
      } else {
        for (int i = 0; i < D - depth; ++i) add(i);
      }
    }
#pragma unroll
    for (int c = 0; c < kEach; ++c) {
      const int64_t place = tile + across * kEach + c;
      if (place >= to) continue;
#pragma unroll
      for (int r = 0; r < kEach; ++r)
        if (sums[r][c] < own[r].distance) own[r] = {sums[r][c], static_cast<int32_t>(place)};
    }
  }
#pragma unroll
  for (int r = 0; r < kEach; ++r) {
#pragma unroll
    for (int bits = kAcross / 2; bits > 0; bits /= 2) {
      const Best other{__shfl_xor_sync(0xffffffffu, own[r].distance, bits),
                       __shfl_xor_sync(0xffffffffu, own[r].place, bits)};
      own[r] = nearer(own[r], other);
    }
    const int64_t row = first + down * kEach + r;
    if (across == 0 && row < n) best[blockIdx.y * n + row] = own[r];
  }
}

/// The nearest of the parts' nearest.
__global__ void choose(const Best* best, int64_t n, int parts, int32_t* place) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  Best nearest{INFINITY, 0};
  for (int p = 0; p < parts; ++p) nearest = nearer(nearest, best[p * n + i]);
  place[i] = nearest.place;
}

}  // namespace
}  // namespace cuda

void CudaKernels::nearest_rows(const Tensor& x, const Tensor& table, Tensor& place) {
  using namespace cuda;
  const int64_t n = place.numel(), K = table.dim(0), D = table.dim(1);
  if (n == 0) return;
  // Few rows of x still fill the device, each with a part of the table; every part is whole tiles.
  const int64_t blocks = ceil_div(n, kTile), tiles = std::max<int64_t>(1, ceil_div(K, kTile));
  const int64_t wanted = std::clamp<int64_t>(ceil_div(8 * limits().multiprocessors, blocks), 1, tiles);
  const int64_t part = ceil_div(tiles, wanted) * kTile, parts = std::max<int64_t>(1, ceil_div(K, part));
  Tensor best = scratch(static_cast<size_t>(parts * n) * sizeof(Best));
  auto* bests = static_cast<Best*>(best.raw());
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(parts));
  for_float(x.dtype(), [&](auto t) {
    for_float(table.dtype(), [&](auto w) {
      using T = decltype(t);
      using W = decltype(w);
      launch(nearest_kernel<T, W>, grid, dim3(kThreads), 0, static_cast<const T*>(x.raw()), n,
             static_cast<const W*>(table.raw()), K, D, part, bests);
    });
  });
  launch(choose, dim3(static_cast<unsigned>(ceil_div(n, kThreads))), dim3(kThreads), 0, bests, n,
         static_cast<int>(parts), place.data<int32_t>());
}

}  // namespace sinopia
