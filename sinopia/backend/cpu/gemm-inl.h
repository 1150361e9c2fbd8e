// Pieces of the CPU matrix products: included once per instruction set, after foreach_target.h.
#if defined(SINOPIA_BACKEND_CPU_GEMM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SINOPIA_BACKEND_CPU_GEMM_INL_H_
#undef SINOPIA_BACKEND_CPU_GEMM_INL_H_
#else
#define SINOPIA_BACKEND_CPU_GEMM_INL_H_
#endif

#include <algorithm>

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include "sinopia/backend/cpu/gemm.h"
#include "sinopia/backend/cpu/math-inl.h"
#include "sinopia/backend/cpu/widen-inl.h"
#include "sinopia/base/half.h"

HWY_BEFORE_NAMESPACE();
namespace sinopia {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;

// The register tile: kTileRows rows by two vectors, which leaves registers for two vectors of the panel and
// one broadcast; the wide tile has three vectors. Eight accumulators are the least that hide the latency of
// two multiply-adds a cycle, sixteen of four. Of 16 registers, 6 x 2 take 15. Of the 32 of AVX-512 and NEON,
// 8 x 2 take 19: more rows or vectors would save loads, of which there is room for one a multiply-add, and
// waste more where what there is, often 8, 32 or 128 rows, is no multiple of them. On NEON, whose compiler
// asks for rows far ahead, three vectors spill with 6 rows or more; no head size of a multiple of 8 needs
// them.
#if HWY_TARGET <= HWY_AVX3
inline constexpr int kTileRows = 8, kWideTileRows = 8;
#elif HWY_ARCH_ARM_A64
inline constexpr int kTileRows = 8, kWideTileRows = 4;
#else
inline constexpr int kTileRows = 6, kWideTileRows = 4;
#endif
inline constexpr int kTileVectors = 2;
HWY_INLINE int64_t TileColumns() { return kTileVectors * static_cast<int64_t>(hn::Lanes(F32())); }
inline constexpr int kMaxTileColumns = kTileVectors * HWY_MAX_BYTES / 4;

#if HWY_TARGET != HWY_SCALAR
/// Four rows of 4 or 8 elements, with the columns of each block of 4 in order: out[i] holds column i of the
/// first block, and of the second if there is one.
template <class D, class T>
HWY_INLINE void LoadColumns(D d, const T* const* rows, int64_t k, hn::Vec<D>* out) {
  const auto r0 = WidenLoad(d, rows[0] + k), r1 = WidenLoad(d, rows[1] + k);
  const auto r2 = WidenLoad(d, rows[2] + k), r3 = WidenLoad(d, rows[3] + k);
  const auto low02 = hn::InterleaveLower(d, r0, r2), low13 = hn::InterleaveLower(d, r1, r3);
  const auto high02 = hn::InterleaveUpper(d, r0, r2), high13 = hn::InterleaveUpper(d, r1, r3);
  out[0] = hn::InterleaveLower(d, low02, low13);
  out[1] = hn::InterleaveUpper(d, low02, low13);
  out[2] = hn::InterleaveLower(d, high02, high13);
  out[3] = hn::InterleaveUpper(d, high02, high13);
}

/// The transposed 4x4 elements at k and column j, or 8x8 where vectors are that long.
template <class D, class T>
HWY_INLINE void PackSquare(D d, const T* const* rows, int64_t columns, int64_t k, float* HWY_RESTRICT to) {
  hn::Vec<D> left[4];
  LoadColumns(d, rows, k, left);
  if constexpr (hn::MaxLanes(D()) == 8) {
    hn::Vec<D> right[4];
    LoadColumns(d, rows + 4, k, right);
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; ++i) {
      hn::StoreU(hn::ConcatLowerLower(d, right[i], left[i]), d, to + i * columns);
      hn::StoreU(hn::ConcatUpperUpper(d, right[i], left[i]), d, to + (i + 4) * columns);
    }
  } else {
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; ++i) hn::StoreU(left[i], d, to + i * columns);
  }
}
#endif

/// panel[k, j] = rows[j][k] for k < length, j < columns (those of a tile).
template <class T>
void PackRows(const T* const* rows, int64_t columns, int64_t length, float* HWY_RESTRICT panel) {
  int64_t k = 0;
#if HWY_TARGET != HWY_SCALAR
  const auto squares = [&](auto d) HWY_ATTR {
    constexpr int64_t kSide = hn::MaxLanes(d);
    for (; k + kSide <= length; k += kSide) {
      for (int64_t j = 0; j < columns; j += kSide)
        PackSquare(d, rows + j, columns, k, panel + k * columns + j);
    }
  };
  squares(hn::CappedTag<float, 8>());
  squares(hn::FixedTag<float, 4>());
#endif
  for (; k < length; ++k) {
    for (int64_t j = 0; j < columns; ++j) panel[k * columns + j] = to_float(rows[j][k]);
  }
}

/// What follows the sums of a tile: out = alpha * (sums + out, if it accumulates) + bias + add, where
/// present.
struct TileEnd {
  bool accumulate = false;
  float alpha = 1;
  const float* bias = nullptr;       ///< of the tile's columns
  const float* add[kTileRows] = {};  ///< of each row, at the tile's columns
};

// Element k of a tile's row i lies at at[i * row + k / kRun * run + k % kRun].
inline constexpr int64_t kRun = static_cast<int64_t>(hn::MaxLanes(F32()));
struct TileRows {
  const float* at;
  int64_t row, run;
};

/// Tiles that PackTile laid out, or the transforms of a picture: read front to back.
template <int kRows>
HWY_INLINE TileRows packed_rows(const float* at) {
  return {at, kRun, kRows * kRun};
}
/// Rows of their own, `row` floats apart.
HWY_INLINE TileRows strided_rows(const float* at, int64_t row) { return {at, row, kRun}; }

/// Floats that a packed tile takes for K.
template <int kRows>
int64_t packed_size(int64_t K) {
  return (K + kRun - 1) / kRun * kRun * kRows;
}

/// Lays out one tile of the left factor: the row i is `segments` runs of `length` floats, run s at
/// rows[s * rows_step + i].
template <int kRows>
void PackTile(const float* const* rows, int64_t rows_step, int64_t segments, int64_t length,
              float* HWY_RESTRICT to) {
  const F32 d;
  for (int64_t s = 0; s < segments; ++s) {
    int64_t k = s * length, done = 0;
    while (done < length) {
      const int64_t lane = k % kRun, count = std::min(kRun - lane, length - done);
      float* out = to + k / kRun * kRows * kRun + lane;
      if (count == kRun) {
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i)
          hn::Store(hn::LoadU(d, rows[s * rows_step + i] + done), d, out + i * kRun);
      } else {
        for (int i = 0; i < kRows; ++i) std::copy_n(rows[s * rows_step + i] + done, count, out + i * kRun);
      }
      k += count;
      done += count;
    }
  }
}

/// The same from a left factor that lies transposed: column k of the tile begins at from + k * stride. The
/// tile has `rows` rows, the last repeated.
template <int kRows>
void PackTransposedTile(const float* from, int64_t stride, int64_t length, int64_t rows,
                        float* HWY_RESTRICT to) {
  for (int64_t k = 0; k < length; ++k, from += stride) {
    float* out = to + k / kRun * kRows * kRun + k % kRun;
    for (int64_t i = 0; i < kRows; ++i) out[i * kRun] = from[std::min(i, rows - 1)];
  }
}

/// The sums of a register tile: kRows rows of kVectors vectors.
template <int kRows, int kVectors>
struct TileSums {
  using V = hn::Vec<F32>;
  V sum[kRows][kVectors];

  /// Zeros; asks for the lines that the tile will be written to.
  HWY_INLINE void begin(const float* out, int64_t out_stride) {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
      for (int j = 0; j < kVectors; ++j) sum[i][j] = hn::Zero(F32());
    }
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) hwy::Prefetch(out + i * out_stride);
  }

  /// Adds element k of each row, at[i * row + k], times row k of the panel.
  HWY_INLINE void multiply(const float* at, int64_t row, int64_t k, const float* panel) {
    const F32 d;
    V b[kVectors];
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j) b[j] = hn::Load(d, panel + (k * kVectors + j) * hn::Lanes(d));
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const V a = hn::Set(d, at[i * row + k]);
#pragma GCC unroll 16
      for (int j = 0; j < kVectors; ++j) sum[i][j] = hn::MulAdd(a, b[j], sum[i][j]);
    }
  }

  HWY_INLINE void finish(float* HWY_RESTRICT out, int64_t out_stride, const TileEnd& end) {
    const F32 d;
    const size_t lanes = hn::Lanes(d);
    if (end.accumulate) {
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
        for (int j = 0; j < kVectors; ++j)
          sum[i][j] = hn::Add(hn::LoadU(d, out + i * out_stride + j * lanes), sum[i][j]);
      }
    }
    if (end.alpha != 1) {
      const V alpha = hn::Set(d, end.alpha);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
        for (int j = 0; j < kVectors; ++j) sum[i][j] = hn::Mul(sum[i][j], alpha);
      }
    }
    if (end.bias) {
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
        for (int j = 0; j < kVectors; ++j) sum[i][j] = hn::Add(sum[i][j], hn::LoadU(d, end.bias + j * lanes));
      }
    }
    if (end.add[0]) {
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
        for (int j = 0; j < kVectors; ++j)
          sum[i][j] = hn::Add(sum[i][j], hn::LoadU(d, end.add[i] + j * lanes));
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
      for (int j = 0; j < kVectors; ++j) hn::StoreU(sum[i][j], d, out + i * out_stride + j * lanes);
    }
  }
};

/// out [kRows, kVectors vectors] = rows [kRows, K] * panel [K, kVectors vectors], the panel aligned. Asks for
/// the rows `ahead` floats further on, unless it is 0.
template <int kRows, int kVectors>
HWY_INLINE void MicroTile(const TileRows& rows, int64_t K, const float* HWY_RESTRICT panel,
                          float* HWY_RESTRICT out, int64_t out_stride, const TileEnd& end,
                          int64_t ahead = 0) {
  const int64_t panel_run = kRun * kVectors * static_cast<int64_t>(hn::Lanes(F32()));
  TileSums<kRows, kVectors> sums;
  sums.begin(out, out_stride);
  const float* at = rows.at;
  const int64_t row = rows.row;
  int64_t left = K;
  for (; left >= kRun; left -= kRun) {
    if (ahead != 0) {
#pragma GCC unroll 16
      for (int64_t i = 0; i < kRows * kRun; i += 16) hwy::Prefetch(at + ahead + i);
    }
#pragma GCC unroll 4
    for (int64_t k = 0; k < kRun; ++k) sums.multiply(at, row, k, panel);
    at += rows.run;
    panel += panel_run;
  }
  for (int64_t k = 0; k < left; ++k) sums.multiply(at, row, k, panel);
  sums.finish(out, out_stride, end);
}

/// Adds a tile of sums to y, and after the last block of K what follows the product.
HWY_INLINE void FinishTile(const GemmProblem& p, int64_t row0, int64_t rows, int64_t column,
                           const float* tile, bool first, bool last) {
  const F32 d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), width = TileColumns();
  const int64_t columns = std::min(width, p.n - column);
  HWY_ALIGN float part[kMaxTileColumns] = {}, bias_part[kMaxTileColumns] = {}, add_part[kMaxTileColumns] = {};
  const bool whole = columns == width;
  const float* bias = !p.bias ? nullptr : whole ? p.bias + column : bias_part;
  if (bias == bias_part) std::copy_n(p.bias + column, columns, bias_part);
  for (int64_t r = 0; r < rows; ++r) {
    float* y = p.y + (row0 + r) * p.n + column;
    float* out = whole ? y : part;
    if (!whole) std::copy_n(y, first ? 0 : columns, part);
    const float* add = p.add ? p.add + (row0 + r) / p.rows_per_add * p.n + column : nullptr;
    if (add && !whole) {
      std::copy_n(add, columns, add_part);
      add = add_part;
    }
    for (int64_t j = 0; j < width; j += lanes) {
      auto v = hn::Load(d, tile + r * width + j);
      if (!first) v = hn::Add(hn::LoadU(d, out + j), v);
      if (last) {
        if (p.alpha != 1) v = hn::Mul(v, hn::Set(d, p.alpha));
        if (bias) v = hn::Add(v, hn::LoadU(d, bias + j));
        if (add) v = hn::Add(v, hn::LoadU(d, add + j));
        v = Activate(d, p.activation, v);
      }
      hn::StoreU(v, d, out + j);
    }
    if (!whole) std::copy_n(part, columns, y);
  }
}

/// Writes rows [row0, row0 + rows) of y at a panel of columns: multiply(out, out_stride, end) computes a
/// whole register tile, and writes straight to y if none of it hangs over. `first` and `last`: blocks of K.
template <class Multiply>
HWY_INLINE void EmitTile(const GemmProblem& p, int64_t row0, int64_t rows, int64_t column, bool first,
                         bool last, const Multiply& multiply) {
  const F32 d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), width = TileColumns();
  if (rows < kTileRows || column + width > p.n) {
    HWY_ALIGN float tile[kTileRows * kMaxTileColumns];
    multiply(tile, width, TileEnd{});
    return FinishTile(p, row0, rows, column, tile, first, last);
  }
  float* y = p.y + row0 * p.n + column;
  TileEnd end{.accumulate = !first};
  if (last) {
    end.alpha = p.alpha;
    if (p.bias) end.bias = p.bias + column;
    for (int64_t i = 0; p.add && i < kTileRows; ++i)
      end.add[i] = p.add + (row0 + i) / p.rows_per_add * p.n + column;
  }
  multiply(y, p.n, end);
  if (!last || p.activation == Activation::None) return;
  for (int64_t i = 0; i < kTileRows; ++i) {
    for (int64_t j = i * p.n; j < i * p.n + width; j += lanes)
      hn::StoreU(Activate(d, p.activation, hn::LoadU(d, y + j)), d, y + j);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sinopia
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
