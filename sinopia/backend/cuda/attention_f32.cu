#include <algorithm>
#include <cmath>
#include <limits>

#include "sinopia/backend/cuda/async_copy.h"
#include "sinopia/backend/cuda/attention.h"
#include "sinopia/backend/cuda/attention_tiles.h"
#include "sinopia/backend/cuda/dynamic_shared.h"
#include "sinopia/backend/cuda/runtime.h"

namespace sinopia::cuda {
namespace {

constexpr int kTile = 64;      ///< queries of a block, keys of a step and columns of a slab
constexpr int kStep = 68;      ///< floats from row to row of a slab: rows 16 bytes wide do not share banks
constexpr int kThreads = 256;  ///< 16 x 16, each for 4 x 4 results
constexpr size_t kSharedBytes = size_t{3} * kTile * kStep * sizeof(float);

/// Columns [column, column + 64) of 64 rows from `from` on, with zeros past the last row and column.
__device__ void load_slab(float* slab, const float* from, int64_t step, int rows, int column, int columns,
                          bool aligned) {
  const int thread = static_cast<int>(threadIdx.x);
  if (aligned) {
    const int across = thread % 16 * 4, first = thread / 16;
#pragma unroll
    for (int r = first; r < kTile; r += 16)
      copy_async(shared_address(slab + r * kStep + across), from + r * step + column + across,
                 r < rows && column + across < columns);
  } else {
    const int across = thread % 64;
    for (int r = thread / 64; r < kTile; r += 4)
      slab[r * kStep + across] =
          r < rows && column + across < columns ? from[r * step + column + across] : 0.0f;
  }
  commit_copies();
}

__device__ void read4(const float* from, float (&to)[4]) {
  const float4 x = *reinterpret_cast<const float4*>(from);
  to[0] = x.x, to[1] = x.y, to[2] = x.z, to[3] = x.w;
}

// Products are summed up over a tile and then added to the sums: long sums stay as exact as short ones.

__device__ void add_to(float (&sums)[4][4], const float (&more)[4][4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) sums[i][j] += more[i][j];
}

/// sums[i][j] += rows 4 y + i of `left` times rows x + 16 j of `right`.
__device__ void multiply_rows(const float* left, const float* right, int x, int y, float (&sums)[4][4]) {
  float products[4][4] = {};
#pragma unroll 2
  for (int d = 0; d < kTile; d += 4) {
    float a[4][4], b[4][4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      read4(left + (4 * y + i) * kStep + d, a[i]);
      read4(right + (x + 16 * i) * kStep + d, b[i]);
    }
#pragma unroll
    for (int e = 0; e < 4; ++e)
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) products[i][j] = fmaf(a[i][e], b[j][e], products[i][j]);
  }
  add_to(sums, products);
}

/// sums[i][j] += rows 4 y + i of `left` times column 4 x + j of `right`.
__device__ void multiply_columns(const float* left, const float* right, int x, int y, float (&sums)[4][4]) {
  float products[4][4] = {};
#pragma unroll 2
  for (int s = 0; s < kTile; s += 4) {
    float a[4][4], b[4][4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      read4(left + (4 * y + i) * kStep + s, a[i]);
      read4(right + (s + i) * kStep + 4 * x, b[i]);
    }
#pragma unroll
    for (int e = 0; e < 4; ++e)
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) products[i][j] = fmaf(a[i][e], b[e][j], products[i][j]);
  }
  add_to(sums, products);
}

/// Over the sixteen threads of a row.
template <class Combine>
__device__ float over_row(float x, Combine combine) {
#pragma unroll
  for (int bits = 8; bits > 0; bits /= 2) x = combine(x, __shfl_xor_sync(0xffffffffu, x, bits));
  return x;
}

/// 64 queries of a head; D is at most 64 kSlabs.
template <int kSlabs>
__global__ void __launch_bounds__(kThreads) attend_f32(const AttentionProblem<float> p, bool aligned) {
  constexpr float kLog2E = 1.44269504f, kInfinity = std::numeric_limits<float>::infinity();
  const BlockOfQueries<float> block(p, kTile);
  const int64_t step = block.step;
  const float* const q = p.q + block.first_element;
  const float* k = p.k + block.first_key_element;
  const float* v = p.v + block.first_key_element;
  float* const of_queries = dynamic_shared<float>();
  float* const of_keys = of_queries + kTile * kStep;  // and of values
  float* const weights = of_keys + kTile * kStep;
  const int x = static_cast<int>(threadIdx.x) % 16, y = static_cast<int>(threadIdx.x) / 16;

  float sums[kSlabs][4][4] = {}, maximum[4], total[4] = {};
#pragma unroll
  for (int i = 0; i < 4; ++i) maximum[i] = -kInfinity;
  for (int key = 0; key < block.keys; key += kTile, k += kTile * step, v += kTile * step) {
    float scores[4][4] = {};
#pragma unroll 1
    for (int c = 0; c < p.columns; c += kTile) {
      __syncthreads();  // nobody needs what is there any more
      if (kSlabs > 1 || key == 0)
        load_slab(of_queries, q, step, p.queries - block.first_query, c, p.columns, aligned);
      load_slab(of_keys, k, step, block.keys - key, c, p.columns, aligned);
      wait_for_copies<0>();
      __syncthreads();
      multiply_rows(of_queries, of_keys, x, y, scores);
    }

#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int t = block.first_query + 4 * y + i;
      const int end = p.causal ? std::min(block.keys, t + 1) : block.keys;
      float highest = maximum[i];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int s = key + x + 16 * j;
        scores[i][j] *= p.scale;
        if (block.bias && t < p.queries && s < end)
          scores[i][j] = fmaf(kLog2E, block.bias[static_cast<int64_t>(t) * p.keys + s], scores[i][j]);
        if (s >= end) scores[i][j] = -kInfinity;
        highest = fmaxf(highest, scores[i][j]);
      }
      highest = over_row(highest, [](float a, float b) { return fmaxf(a, b); });
      const float shift = shift_of(highest, 1.0f), shrink = exp2f(maximum[i] - shift);
      const bool changed = highest != maximum[i];
      maximum[i] = highest;
      total[i] *= shrink;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        scores[i][j] = exp2f(scores[i][j] - shift);
        total[i] += scores[i][j];
        weights[(4 * y + i) * kStep + x + 16 * j] = scores[i][j];
      }
      if (changed) {
#pragma unroll
        for (int c = 0; c < kSlabs; ++c)
#pragma unroll
          for (int j = 0; j < 4; ++j) sums[c][i][j] *= shrink;
      }
    }
#pragma unroll
    for (int c = 0; c < kSlabs; ++c) {
      if (c * kTile >= p.columns) break;
      __syncthreads();  // the weights are there, and nobody needs the keys or other values any more
      load_slab(of_keys, v, step, block.keys - key, c * kTile, p.columns, aligned);
      wait_for_copies<0>();
      __syncthreads();
      multiply_columns(weights, of_keys, x, y, sums[c]);
    }
  }

#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float all = over_row(total[i], [](float a, float b) { return a + b; });
    const float inverse = all == 0 ? 0.0f : 1.0f / all;
    const int row = 4 * y + i;
    if (block.first_query + row >= p.queries) continue;
    float* const to = p.y + block.first_element + row * step;
#pragma unroll
    for (int c = 0; c < kSlabs; ++c)
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int column = c * kTile + 4 * x + j;
        if (column < p.columns) to[column] = sums[c][i][j] * inverse;
      }
  }
}

template <int kSlabs>
void attend_with(const AttentionProblem<float>& p, bool aligned) {
  constexpr auto kernel = attend_f32<kSlabs>;
  allow_shared_memory(kernel, kSharedBytes);
  const int64_t blocks = p.batch * p.heads * ceil_div(p.queries, kTile);
  launch(kernel, dim3(static_cast<unsigned>(blocks)), kThreads, kSharedBytes, p, aligned);
}

}  // namespace

void attention(const AttentionProblem<float>& p) {
  const auto multiple_of_16 = [](const void* x) { return reinterpret_cast<uintptr_t>(x) % 16 == 0; };
  const bool aligned =
      p.columns % 4 == 0 && multiple_of_16(p.q) && multiple_of_16(p.k) && multiple_of_16(p.v);
  if (p.columns <= 64) return attend_with<1>(p, aligned);
  if (p.columns <= 128) return attend_with<2>(p, aligned);
  if (p.columns <= 256) return attend_with<4>(p, aligned);
  return attend_with<8>(p, aligned);
}

}  // namespace sinopia::cuda
