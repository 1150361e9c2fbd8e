#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "sinopia/backend/cpu/cast.h"
#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/backend/cuda/divisor.h"
#include "sinopia/backend/cuda/map.h"
#include "sinopia/backend/cuda/quantised_blocks.h"
#include "sinopia/backend/cuda/units.h"

namespace sinopia {
namespace cuda {
namespace {

template <class Unit>
__global__ void fill_kernel(Unit* y, Unit value, int64_t n) {
  const int64_t first = map_first();
#pragma unroll
  for (int r = 0; r < kMapRuns; ++r) {
    const int64_t i = first + r * kMapThreads;
    if (i < n) y[i] = value;
  }
}

/// Rows of `units` units each, copied from and to rows that are `from_step` and `to_step` apart.
struct Piece {
  const void* from;
  int64_t from_step, to_at, units, n;  ///< n is of all rows
  Divisor row;
};
constexpr int kPieces = 32;
struct Pieces {
  Piece at[kPieces];
};

/// Block row k copies piece k.
template <class Unit>
__global__ void copy_rows_kernel(Pieces pieces, Unit* y, int64_t to_step) {
  const Piece& piece = pieces.at[blockIdx.y];
  const auto* from = static_cast<const Unit*>(piece.from);
  const int64_t first = map_first();
  Unit units[kMapRuns];
  int64_t to[kMapRuns];
#pragma unroll
  for (int r = 0; r < kMapRuns; ++r) {
    int64_t column = first + r * kMapThreads;
    if (column >= piece.n) break;
    const int64_t row = piece.row.divide(column);
    units[r] = from[row * piece.from_step + column];
    to[r] = row * to_step + piece.to_at + column;
  }
#pragma unroll
  for (int r = 0; r < kMapRuns; ++r) {
    if (first + r * kMapThreads >= piece.n) break;
    y[to[r]] = units[r];
  }
}

/// A piece in bytes.
struct Rows {
  const void* from;
  int64_t from_step, to_at, bytes;
};

/// Copies `rows` rows of each piece; those of y are to_step bytes apart.
void copy_pieces(std::span<const Rows> all, int64_t rows, void* y, int64_t to_step) {
  uintptr_t bits = reinterpret_cast<uintptr_t>(y) | (rows > 1 ? static_cast<uintptr_t>(to_step) : 0);
  for (const Rows& piece : all) {
    bits |= reinterpret_cast<uintptr_t>(piece.from) | static_cast<uintptr_t>(piece.to_at | piece.bytes);
    if (rows > 1) bits |= static_cast<uintptr_t>(piece.from_step);
  }
  for_units(widest_unit(bits), [&](auto unit) {
    using Unit = decltype(unit);
    constexpr auto kBytes = static_cast<int64_t>(sizeof(Unit));
    for (size_t first = 0; first < all.size(); first += kPieces) {
      const auto some = all.subspan(first, std::min<size_t>(kPieces, all.size() - first));
      Pieces pieces{};
      int64_t longest = 0;
      for (size_t k = 0; k < some.size(); ++k) {
        const int64_t units = some[k].bytes / kBytes;
        pieces.at[k] = {some[k].from, some[k].from_step / kBytes,          some[k].to_at / kBytes, units,
                        units * rows, Divisor(std::max<int64_t>(1, units))};
        longest = std::max(longest, units * rows);
      }
      dim3 grid = map_grid(longest);
      grid.y = static_cast<unsigned>(some.size());
      launch(copy_rows_kernel<Unit>, grid, kMapThreads, 0, pieces, y, to_step / kBytes);
    }
  });
}

int64_t product(const Shape& shape, int begin, int end) {
  int64_t result = 1;
  for (int axis = begin; axis < end; ++axis) result *= shape.dim(axis);
  return result;
}

/// y[i,:] = table[ids[i],:], in runs of kCount, of which a row has whole ones.
template <int kCount, class From, class To>
__global__ void gather_kernel(const From* table, const int32_t* ids, To* y, Divisor row_runs, int64_t D,
                              int64_t runs) {
  const int64_t first = map_first();
  Run<From, kCount> in[kMapRuns];
#pragma unroll
  for (int r = 0; r < kMapRuns; ++r) {
    int64_t column = first + r * kMapThreads;
    if (column >= runs) break;
    const int64_t row = row_runs.divide(column);
    in[r] = load_run<From, kCount>(table + ids[row] * D + column * kCount);
  }
#pragma unroll
  for (int r = 0; r < kMapRuns; ++r) {
    const int64_t run = first + r * kMapThreads;
    if (run >= runs) break;
    Run<To, kCount> out;
#pragma unroll
    for (int k = 0; k < kCount; ++k) out.values[k] = narrow_to<To>(widen(in[r].values[k]));
    store_run(y + run * kCount, out);
  }
}

template <class Block, class To>
__global__ void gather_blocks_kernel(const Block* table, const int32_t* ids, To* y, Divisor row_runs,
                                     int64_t row_blocks, int64_t runs) {
  const int64_t run = static_cast<int64_t>(blockIdx.x) * kMapThreads + threadIdx.x;
  if (run >= runs) return;
  constexpr int kRuns = kBlockElements<Block> / kDecoded;
  int64_t column = run;
  const int64_t row = row_runs.divide(column);
  float values[kDecoded];
  decode(table[ids[row] * row_blocks + column / kRuns], static_cast<int>(column % kRuns) * kDecoded, values);
  store_run(y + run * kDecoded, values);
}

template <class From, class To>
void gather(const Tensor& table, const Tensor& ids, Tensor& y) {
  const int64_t D = table.dim(1);
  const auto run = [&]<int kCount>(std::integral_constant<int, kCount>) {
    const int64_t runs = y.numel() / kCount;
    launch(gather_kernel<kCount, From, To>, map_grid(runs), kMapThreads, 0, table.raw(), ids.raw(), y.raw(),
           Divisor(D / kCount), D, runs);
  };
  constexpr int kWide = run_length(std::min(sizeof(From), sizeof(To)));
  if (D % kWide == 0 && aligned({table.raw()}, sizeof(From) * kWide) &&
      aligned({y.raw()}, sizeof(To) * kWide)) {
    run(std::integral_constant<int, kWide>());
  } else {
    run(std::integral_constant<int, 1>());
  }
}

}  // namespace
}  // namespace cuda

using namespace cuda;

void CudaKernels::fill(Tensor& y, float value) {
  if (y.numel() == 0) return;
  std::array<unsigned char, 16> pattern{};
  const size_t size = size_of(y.dtype());
  visit_dtype(y.dtype(), [&](auto type) {
    const auto element = cast_element<decltype(type)>(value);
    for (size_t at = 0; at < pattern.size(); at += size) std::memcpy(&pattern[at], &element, size);
  });
  for_units(widest_unit(reinterpret_cast<uintptr_t>(y.raw()) | y.bytes()), [&](auto unit) {
    std::memcpy(&unit, pattern.data(), sizeof unit);
    const int64_t n = static_cast<int64_t>(y.bytes() / sizeof unit);
    launch(fill_kernel<decltype(unit)>, map_grid(n), kMapThreads, 0, y.raw(), unit, n);
  });
}

void CudaKernels::concat(std::span<const Tensor> xs, int axis, Tensor& y) {
  const int64_t rows = product(y.shape(), 0, axis);
  if (rows == 0 || y.bytes() == 0) return;
  std::vector<Rows> pieces;
  int64_t at = 0;
  for (const Tensor& x : xs) {
    const int64_t bytes = static_cast<int64_t>(x.bytes()) / rows;
    if (bytes > 0) pieces.push_back({x.raw(), bytes, at, bytes});
    at += bytes;
  }
  copy_pieces(pieces, rows, y.raw(), at);
}

void CudaKernels::narrow(const Tensor& x, int axis, int64_t begin, Tensor& y) {
  if (y.numel() == 0) return;
  const auto size = static_cast<int64_t>(size_of(x.dtype()));
  const int64_t below = product(x.shape(), axis + 1, x.rank()) * size;
  const int64_t rows = product(x.shape(), 0, axis), bytes = y.dim(axis) * below;
  const Rows piece{static_cast<const char*>(x.raw()) + begin * below, x.dim(axis) * below, 0, bytes};
  copy_pieces({&piece, 1}, rows, y.raw(), bytes);
}

void CudaKernels::gather_rows(const Tensor& table, const Tensor& ids, Tensor& y) {
  if (y.numel() == 0) return;
  if (is_quantised(table.dtype())) {
    const int64_t row_blocks = table.dim(1) / block_elements(table.dtype()), runs = y.numel() / kDecoded;
    for_blocks(table.dtype(), [&](auto block) {
      for_float(y.dtype(), [&](auto to) {
        launch(gather_blocks_kernel<decltype(block), decltype(to)>,
               static_cast<unsigned>(ceil_div(runs, kMapThreads)), kMapThreads, 0, table.raw(), ids.raw(),
               y.raw(), Divisor(table.dim(1) / kDecoded), row_blocks, runs);
      });
    });
    return;
  }
  for_float(table.dtype(), [&](auto from) {
    for_float(y.dtype(), [&](auto to) { gather<decltype(from), decltype(to)>(table, ids, y); });
  });
}

}  // namespace sinopia
