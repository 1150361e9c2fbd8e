#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "sinopia/backend/axes.h"
#include "sinopia/backend/cpu/cast.h"
#include "sinopia/backend/cpu/cpu_kernels.h"
#include "sinopia/base/threads.h"

namespace sinopia {
namespace {

// Where the i-th combination of all axes of `outer` starts in x and y.
std::pair<int64_t, int64_t> offsets(std::span<const PermutedAxis> outer, int64_t i) {
  int64_t x = 0, y = 0;
  for (size_t k = outer.size(); k-- > 0;) {
    x += i % outer[k].extent * outer[k].x_step;
    y += i % outer[k].extent * outer[k].y_step;
    i /= outer[k].extent;
  }
  return {x, y};
}

int64_t combinations(std::span<const PermutedAxis> outer) {
  int64_t result = 1;
  for (const PermutedAxis& axis : outer) result *= axis.extent;
  return result;
}

// Both ends run along the last axis: rows are copied whole.
void copy_rows(const char* x, char* y, std::span<const PermutedAxis> axes, int64_t size) {
  const auto outer = axes.first(axes.size() - 1);
  const int64_t row = axes.back().extent;
  const int64_t piece = std::min(row, kMemoryGrain), pieces = (row + piece - 1) / piece;
  parallel_for(combinations(outer) * pieces, kMemoryGrain / piece, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto [from, to] = offsets(outer, i / pieces);
      const int64_t at = i % pieces * piece;
      std::memcpy(y + (to + at) * size, x + (from + at) * size,
                  static_cast<size_t>(std::min(piece, row - at) * size));
    }
  });
}

constexpr int64_t kTile = 32, kLongTile = 512;

// target[a * target_step + b] = source[b * source_step + a]. A square tile goes through a buffer, so that
// each of its cache lines is read once, wherever the rows of a large x fall in the cache.
template <class T>
void transpose_tile(const T* source, int64_t source_step, T* target, int64_t target_step, int64_t rows,
                    int64_t columns) {
  std::array<T, kTile * kTile> buffer;
  if (rows <= kTile && columns <= kTile) {
    for (int64_t b = 0; b < columns; ++b) {
      std::memcpy(&buffer[static_cast<size_t>(b * kTile)], source + b * source_step,
                  static_cast<size_t>(rows) * sizeof(T));
    }
    source = buffer.data();
    source_step = kTile;
  }
  for (int64_t a = 0; a < rows; ++a) {
    for (int64_t b = 0; b < columns; ++b) target[a * target_step + b] = source[b * source_step + a];
  }
}

// x runs along axis q, y along axis p: tiles of the two that fit the first cache, written in order.
template <class T>
void transpose(const T* x, T* y, std::vector<PermutedAxis> axes, size_t q_index) {
  const PermutedAxis p = axes.back(), q = axes[q_index];
  axes.pop_back();
  axes.erase(axes.begin() + static_cast<std::ptrdiff_t>(q_index));
  const int64_t q_tile = std::min(q.extent, p.extent <= kTile / 2 ? kLongTile : kTile);
  const int64_t p_tile = std::min(p.extent, q.extent <= kTile / 2 ? kLongTile : kTile);
  const int64_t q_tiles = (q.extent + q_tile - 1) / q_tile, p_tiles = (p.extent + p_tile - 1) / p_tile;
  const int64_t grain = std::max<int64_t>(1, kMemoryGrain / (q_tile * p_tile));
  parallel_for(combinations(axes) * q_tiles * p_tiles, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto [from, to] = offsets(axes, i / (q_tiles * p_tiles));
      const int64_t q0 = i / p_tiles % q_tiles * q_tile, p0 = i % p_tiles * p_tile;
      const int64_t q_count = std::min(q_tile, q.extent - q0), p_count = std::min(p_tile, p.extent - p0);
      transpose_tile(x + from + q0 + p0 * p.x_step, p.x_step, y + to + q0 * q.y_step + p0, q.y_step, q_count,
                     p_count);
    }
  });
}

}  // namespace

void CpuKernels::permute(const Tensor& x, std::span<const int> axes, Tensor& y) {
  if (x.numel() == 0) return;
  const std::vector<PermutedAxis> joined = permuted_axes(x.shape(), axes);
  const size_t size = size_of(x.dtype());
  if (joined.back().x_step == 1) {
    copy_rows(static_cast<const char*>(x.raw()), static_cast<char*>(y.raw()), joined,
              static_cast<int64_t>(size));
    return;
  }
  const auto q = std::ranges::find(joined, 1, &PermutedAxis::x_step);
  const auto run = [&](auto type) {
    using T = decltype(type);
    transpose(static_cast<const T*>(x.raw()), static_cast<T*>(y.raw()), joined,
              static_cast<size_t>(q - joined.begin()));
  };
  switch (size) {
    case 1:
      return run(uint8_t{});
    case 2:
      return run(uint16_t{});
    case 4:
      return run(uint32_t{});
    default:
      return run(uint64_t{});
  }
}

}  // namespace sinopia
