#include <algorithm>
#include <vector>

#include "sinopia/backend/axes.h"
#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/backend/cuda/divisor.h"
#include "sinopia/backend/cuda/map.h"
#include "sinopia/backend/cuda/units.h"

namespace sinopia {
namespace cuda {
namespace {

/// Several nested axes, for a kernel: fastest first.
struct Walk {
  int rank = 0;
  Divisor extents[Shape::kMaxRank];
  int64_t x_steps[Shape::kMaxRank] = {}, y_steps[Shape::kMaxRank] = {};

  /// `axes` slowest first.
  explicit Walk(std::span<const PermutedAxis> axes) {
    for (auto axis = axes.rbegin(); axis != axes.rend(); ++axis, ++rank) {
      extents[rank] = Divisor(axis->extent);
      x_steps[rank] = axis->x_step;
      y_steps[rank] = axis->y_step;
    }
  }

  /// Where combination i of all axes lies.
  __device__ void find(int64_t i, int64_t& x, int64_t& y) const {
    x = y = 0;
#pragma unroll
    for (int k = 0; k < Shape::kMaxRank; ++k) {
      if (k >= rank) break;
      int64_t at = i;
      i = k + 1 < rank ? extents[k].divide(at) : 0;
      x += at * x_steps[k];
      y += at * y_steps[k];
    }
  }
};

/// Unit by unit, in the order of `walk`.
template <class Unit>
__global__ void permute_kernel(const Unit* x, Unit* y, Walk walk, int64_t n) {
  const int64_t first = map_first();
  Unit units[kMapRuns];
  int64_t to[kMapRuns];
#pragma unroll
  for (int r = 0; r < kMapRuns; ++r) {
    const int64_t i = first + r * kMapThreads;
    if (i >= n) break;
    int64_t from;
    walk.find(i, from, to[r]);
    units[r] = x[from];
  }
#pragma unroll
  for (int r = 0; r < kMapRuns; ++r) {
    if (first + r * kMapThreads >= n) break;
    y[to[r]] = units[r];
  }
}

template <class Unit>
void permute_units(const void* x, void* y, std::span<const PermutedAxis> walk) {
  int64_t n = 1;
  for (const PermutedAxis& axis : walk) n *= axis.extent;
  launch(permute_kernel<Unit>, map_grid(n), kMapThreads, 0, x, y, Walk(walk), n);
}

/// The shorter of two exchanged axes from which on tiles of them pay.
constexpr int64_t kTiled = 9;
constexpr int kTileThreads = 256;
/// The edge of a tile: its rows in x and in y fill whole sectors of 32 bytes.
template <class Unit>
constexpr int kTile = sizeof(Unit) <= 2 ? 64 : 32;

/// x runs along axis q, y along axis p: each block copies a tile of the two, its columns to rows; `outer` are
/// the other axes.
template <class Unit>
__global__ void transpose_kernel(const Unit* x, Unit* y, PermutedAxis p, PermutedAxis q, Walk outer,
                                 Divisor p_tiles, Divisor q_tiles) {
  constexpr int kEdge = kTile<Unit>, kLanes = 32, kRows = kTileThreads / kLanes;
  // Rows an odd number of words long put a column into banks of its own.
  constexpr int kPad = sizeof(Unit) < 4 ? 4 / sizeof(Unit) : 1;
  __shared__ Unit tile[kEdge][kEdge + kPad];
  int64_t p0 = blockIdx.x;
  int64_t q0 = p_tiles.divide(p0);
  const int64_t rest = q_tiles.divide(q0);
  int64_t from, to;
  outer.find(rest, from, to);
  p0 *= kEdge;
  q0 *= kEdge;
  from += p0 * p.x_step + q0;
  to += q0 * q.y_step + p0;
  const int lane = static_cast<int>(threadIdx.x) % kLanes, row = static_cast<int>(threadIdx.x) / kLanes;
  const int64_t p_left = p.extent - p0, q_left = q.extent - q0;
#pragma unroll
  for (int i = 0; i < kEdge; i += kRows) {
#pragma unroll
    for (int k = 0; k < kEdge; k += kLanes)
      if (i + row < p_left && k + lane < q_left)
        tile[i + row][k + lane] = x[from + (i + row) * p.x_step + k + lane];
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kEdge; i += kRows) {
#pragma unroll
    for (int k = 0; k < kEdge; k += kLanes)
      if (i + row < q_left && k + lane < p_left)
        y[to + (i + row) * q.y_step + k + lane] = tile[k + lane][i + row];
  }
}

template <class Unit>
void transpose(const void* x, void* y, std::vector<PermutedAxis> axes, size_t q_index) {
  const PermutedAxis p = axes.back(), q = axes[q_index];
  axes.pop_back();
  axes.erase(axes.begin() + static_cast<std::ptrdiff_t>(q_index));
  const int64_t p_tiles = ceil_div(p.extent, kTile<Unit>), q_tiles = ceil_div(q.extent, kTile<Unit>);
  int64_t blocks = p_tiles * q_tiles;
  for (const PermutedAxis& axis : axes) blocks *= axis.extent;
  launch(transpose_kernel<Unit>, static_cast<unsigned>(blocks), kTileThreads, 0, x, y, p, q, Walk(axes),
         Divisor(p_tiles), Divisor(q_tiles));
}

}  // namespace
}  // namespace cuda

using namespace cuda;

void CudaKernels::permute(const Tensor& x, std::span<const int> axes, Tensor& y) {
  if (x.numel() == 0) return;
  std::vector<PermutedAxis> joined = permuted_axes(x.shape(), axes);
  const size_t size = size_of(x.dtype());
  if (joined.back().x_step == 1) {
    // Both run along the last axis, and their rows begin at whole ones: as many elements at once as divide
    // a row.
    const uintptr_t bits = reinterpret_cast<uintptr_t>(x.raw()) | reinterpret_cast<uintptr_t>(y.raw()) |
                           static_cast<uintptr_t>(joined.back().extent) * size;
    const size_t unit_bytes = widest_unit(bits);
    const auto elements = static_cast<int64_t>(unit_bytes / size);
    joined.back().extent /= elements;
    for (size_t k = 0; k + 1 < joined.size(); ++k) {
      joined[k].x_step /= elements;
      joined[k].y_step /= elements;
    }
    for_units(unit_bytes, [&](auto unit) { permute_units<decltype(unit)>(x.raw(), y.raw(), joined); });
    return;
  }
  const auto q = std::ranges::find(joined, 1, &PermutedAxis::x_step);
  for_units(size, [&](auto unit) {
    using Unit = decltype(unit);
    if constexpr (sizeof(Unit) <= 8) {
      if (std::min(q->extent, joined.back().extent) >= kTiled)
        return transpose<Unit>(x.raw(), y.raw(), joined, static_cast<size_t>(q - joined.begin()));
    }
    // One of the two is short. Whoever walks along it touches few rows of the other side, each a sector at a
    // time.
    if (q->extent < joined.back().extent)
      std::ranges::sort(joined,
                        [](const PermutedAxis& a, const PermutedAxis& b) { return a.x_step > b.x_step; });
    permute_units<Unit>(x.raw(), y.raw(), joined);
  });
}

}  // namespace sinopia
