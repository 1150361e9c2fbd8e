#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "sinopia/backend/cuda/async_copy.h"
#include "sinopia/backend/cuda/attention.h"
#include "sinopia/backend/cuda/elements.h"
#include "sinopia/backend/cuda/mma.h"

// Parts of the attention kernels for halves. T is __half or __nv_bfloat16.

namespace sinopia::cuda {

/// Two neighbours of a fragment, each rounded to nearest.
template <class T>
__device__ inline uint32_t pack(float low, float high) {
  uint32_t pair;
  if constexpr (std::is_same_v<T, __half>) {
    const __half2 values = __floats2half2_rn(low, high);
    memcpy(&pair, &values, sizeof pair);
  } else {
    const __nv_bfloat162 values = __floats2bfloat162_rn(low, high);
    memcpy(&pair, &values, sizeof pair);
  }
  return pair;
}

/// Which queries of which head a block of the grid takes, `count` of them, and where things are.
template <class T>
struct BlockOfQueries {
  int64_t step;               ///< elements from token to token
  int first_query, keys;      ///< and how many keys any of the queries sees
  int64_t first_element;      ///< of its queries in q and y
  int64_t first_key_element;  ///< of its head in k and v
  const T* bias;              ///< of its head, or absent

  __device__ BlockOfQueries(const AttentionProblem<T>& p, int count) {
    const unsigned tiles = static_cast<unsigned>((p.queries + count - 1) / count);
    const unsigned index = blockIdx.x / tiles, place = blockIdx.x % tiles;
    const int64_t batch = index / static_cast<unsigned>(p.heads),
                  head = index % static_cast<unsigned>(p.heads);
    step = static_cast<int64_t>(p.heads) * p.columns;
    first_query = static_cast<int>(p.causal ? tiles - 1 - place : place) * count;  // the longest first
    keys = p.causal ? std::min(p.keys, first_query + count) : p.keys;
    first_element = (batch * p.queries + first_query) * step + head * p.columns;
    first_key_element = batch * p.keys * step + head * p.columns;
    bias = p.bias ? p.bias + batch * p.bias_batch_step + head * p.bias_head_step : nullptr;
  }
};

/// How rows of kColumns T lie in shared memory: filled up to a multiple of 16 columns, and eight more so that
/// neighbouring rows begin an odd number of 16 bytes apart and eight of them never share a bank.
template <int kColumns>
struct TileRows {
  static constexpr int kDepthSteps = (kColumns + 15) / 16;  ///< of a product over the columns
  static constexpr int kWidth = kDepthSteps * 16;           ///< columns, with those that are zero
  static constexpr int kStep = kWidth + 8;                  ///< elements from row to row
  static constexpr int kStepBytes = kStep * 2;
};

/// Starts to copy `rows` rows of D = `columns` columns from `from` on, `step` elements apart, into a tile of
/// kRows x kColumns, with zeros in the rest. Without `aligned`, which is that rows begin at multiples of
/// 16 bytes and D is one of eight elements, it is done at once instead.
template <int kRows, int kColumns, int kThreads, class T>
__device__ inline void load_tile(T* tile, const T* from, int64_t step, int rows, int columns, bool aligned) {
  using Rows = TileRows<kColumns>;
  const int thread = static_cast<int>(threadIdx.x);
  if (aligned) {
    // Neighbouring threads take neighbouring 16 bytes of a row; the same columns in every row.
    constexpr int kRuns = Rows::kWidth / 8;
    constexpr int kAcross = kRuns % 8 == 0 ? 8 : kRuns % 4 == 0 ? 4 : 2;
    constexpr int kDown = kThreads / kAcross;
    const int first = thread / kAcross, column = thread % kAcross * 8;
    const SharedAddress to =
        shared_address(tile) + static_cast<unsigned>(first * Rows::kStepBytes + column * 2);
    const T* source = from + first * step + column;
#pragma unroll
    for (int r = 0; r < kRows; r += kDown) {
      if (r + kDown > kRows && first + r >= kRows) break;
#pragma unroll
      for (int c = 0; c < Rows::kWidth; c += kAcross * 8)
        copy_async(to + static_cast<unsigned>(r * Rows::kStepBytes + c * 2), source + c,
                   first + r < rows && column + c < columns);
      source += kDown * step;
    }
  } else {
#pragma unroll 1
    for (int i = thread; i < kRows * Rows::kWidth; i += kThreads) {
      const int r = i / Rows::kWidth, c = i % Rows::kWidth;
      tile[r * Rows::kStep + c] = r < rows && c < columns ? from[r * step + c] : T{};
    }
  }
}

/// Adds the bias to scores of a warp, after the scale: [16 kTall rows, 8 kWide keys] from row `query` and key
/// `key` on. `bias` is that of the head, [queries, keys].
template <int kTall, int kWide, class T>
__device__ inline void add_bias(float (&scores)[kTall][kWide][4], const T* bias, int query, int key,
                                int queries, int keys, int row_step, float scale) {
  constexpr float kLog2E = 1.44269504f;
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int m = 0; m < kTall; ++m)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int t = query + m * 16 + e / 2 * 8 + lane / 4;
      const T* row = bias + static_cast<int64_t>(t < queries ? t : 0) * row_step;
#pragma unroll
      for (int n = 0; n < kWide; ++n) {
        const int s = key + n * 8 + lane % 4 * 2 + e % 2;
        scores[m][n][e] *= scale;
        if (bias && s < keys) scores[m][n][e] = fmaf(kLog2E, widen(row[s]), scores[m][n][e]);
      }
    }
}

/// Scores of keys from `keys` on, and of those after the query if `causal`, become -infinity.
template <int kTall, int kWide>
__device__ inline void mask_scores(float (&scores)[kTall][kWide][4], int query, int key, int keys,
                                   bool causal) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int m = 0; m < kTall; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int t = query + m * 16 + h * 8 + lane / 4;
      const int end = (causal && t + 1 < keys ? t + 1 : keys) - key - lane % 4 * 2;
#pragma unroll
      for (int n = 0; n < kWide; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e)
          if (n * 8 + e >= end) scores[m][n][2 * h + e] = -std::numeric_limits<float>::infinity();
    }
}

/// What is subtracted from the scores of a row whose largest is `maximum`, both times `factor`.
__device__ inline float shift_of(float maximum, float factor) {
  return maximum == -std::numeric_limits<float>::infinity() ? 0.0f : maximum * factor;
}

/// The larger one over the four lanes that share a row.
__device__ inline float row_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
__device__ inline float row_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

/// Scores, times `factor`, become weights relative to a row's maximum; `total` grows by this lane's.
template <int kTall, int kWide>
__device__ inline void weigh(float (&scores)[kTall][kWide][4], const float (&maximum)[kTall][2], float factor,
                             float (&total)[kTall][2]) {
#pragma unroll
  for (int m = 0; m < kTall; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float shift = shift_of(maximum[m][h], factor);
#pragma unroll
      for (int n = 0; n < kWide; ++n)
#pragma unroll
        for (int e = 2 * h; e < 2 * h + 2; ++e) {
          scores[m][n][e] = exp2_flushed(fmaf(scores[m][n][e], factor, -shift));
          total[m][h] += scores[m][n][e];
        }
    }
}

/// Brings `maximum` up to that of these scores and shrinks `total` accordingly; by how much is left in
/// `shrink`. Whether any row of the warp has changed.
template <int kTall>
__device__ inline bool raise_maximum(const float (&highest)[kTall][2], float factor,
                                     float (&maximum)[kTall][2], float (&total)[kTall][2],
                                     float (&shrink)[kTall][2]) {
  bool changed = false;
#pragma unroll
  for (int m = 0; m < kTall; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float before = maximum[m][h];
      maximum[m][h] = fmaxf(before, highest[m][h]);
      shrink[m][h] = exp2_flushed(before * factor - shift_of(maximum[m][h], factor));
      total[m][h] *= shrink[m][h];
      changed = changed || maximum[m][h] != before;
    }
  return __any_sync(0xffffffffu, changed);
}

template <int kTall, int kWide>
__device__ inline void highest_of(const float (&scores)[kTall][kWide][4], float (&highest)[kTall][2]) {
#pragma unroll
  for (int m = 0; m < kTall; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float most = scores[m][0][2 * h];
#pragma unroll
      for (int n = 0; n < kWide; ++n) most = fmaxf(most, fmaxf(scores[m][n][2 * h], scores[m][n][2 * h + 1]));
      highest[m][h] = row_max(most);
    }
}

template <int kTall, int kWide>
__device__ inline void shrink_sums(float (&sums)[kTall][kWide][4], const float (&shrink)[kTall][2]) {
#pragma unroll
  for (int m = 0; m < kTall; ++m)
#pragma unroll
    for (int n = 0; n < kWide; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[m][n][e] *= shrink[m][e / 2];
}

/// Row h of two, lane / 4 and eight more, of a warp's weighted sums becomes T at `row`, the first column.
template <int kTiles, class T>
__device__ inline void store_sums(const float (&sums)[kTiles][4], int h, float total, T* row) {
  const float inverse = total == 0 ? 0.0f : 1.0f / total;  // no key counted: zeros
  const int column = static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int c = 0; c < kTiles; ++c)
    *reinterpret_cast<uint32_t*>(row + c * 8 + column) =
        pack<T>(sums[c][2 * h] * inverse, sums[c][2 * h + 1] * inverse);
}

/// Copies rows of a warp's result from shared memory, `from`, to y. `rows` and `columns` are there.
template <int kRows, int kColumns, class T>
__device__ inline void store_rows(const T* from, T* y, int64_t step, int rows, int columns, bool aligned) {
  using Rows = TileRows<kColumns>;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (aligned) {
    constexpr int kRuns = Rows::kWidth / 8;
    for (int i = lane; i < kRows * kRuns; i += 32) {
      const int r = i / kRuns, c = i % kRuns * 8;
      if (r < rows && c < columns)
        *reinterpret_cast<Run<T, 8>*>(y + r * step + c) =
            *reinterpret_cast<const Run<T, 8>*>(from + r * Rows::kStep + c);
    }
  } else {
#pragma unroll 1
    for (int i = lane; i < kRows * Rows::kWidth; i += 32) {
      const int r = i / Rows::kWidth, c = i % Rows::kWidth;
      if (r < rows && c < columns) y[r * step + c] = from[r * Rows::kStep + c];
    }
  }
}

}  // namespace sinopia::cuda
