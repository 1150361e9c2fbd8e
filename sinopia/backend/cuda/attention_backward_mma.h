#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "sinopia/backend/cuda/async_copy.h"
#include "sinopia/backend/cuda/attention_backward.h"
#include "sinopia/backend/cuda/dynamic_shared.h"
#include "sinopia/backend/cuda/elements.h"
#include "sinopia/backend/cuda/mma.h"
#include "sinopia/backend/cuda/reductions.h"
#include "sinopia/backend/cuda/runtime.h"

// A block has queries (or keys) of its own, its warps 16 or 32 each, and goes over the keys (or queries) a
// tile at a time. A warp's products with a tile, scores and dp, stay in its registers; rounded, they are the
// left side of the products that are summed up there. The weights are powers of two of scores times log2 e.
//
// ds, the gradient of a score, may be far below the smallest f16: there dp counts times a power of two that
// makes the largest dy that it comes from about 1/16, far from both ends of what f16 holds, and the weights
// that are summed up for a key, which may be small as well, count times 2^8. Neither rounds, and their
// inverses come at the end.

namespace sinopia::cuda::attention_mma {

constexpr int kWarps = 4, kThreads = 32 * kWarps;
constexpr int kWeightShift = 8;  // f16 only

/// How heads of up to kD channels are done: each block keeps kSlice columns of its results, each warp has
/// kStrips times 16 rows, and kStages tiles of kRows rows are in shared memory. kBlocks fit at a time.
template <int kD_, int kSlice_, int kStrips_, int kRows_, int kStages_, int kBlocks_>
struct Plan {
  static constexpr int kD = kD_, kSlice = kSlice_, kStrips = kStrips_, kRows = kRows_;
  static constexpr int kStages = kStages_, kBlocks = kBlocks_;
  static constexpr int kWarpRows = 16 * kStrips, kTile = kWarps * kWarpRows;
  static constexpr int kStride = kD + 8;  // elements; the same columns of 8 rows lie in different banks
  static constexpr int kOwnBytes = kTile * kStride * 2, kLoopBytes = kRows * kStride * 2;
  static constexpr int kStatisticsBytes = 2 * kRows * 4;
  static constexpr int kStageBytes = 2 * kLoopBytes + kStatisticsBytes;
  static constexpr size_t kSharedBytes = 2 * kOwnBytes + kStages * kStageBytes;
  static_assert(kD % 16 == 0 && kSlice % 16 == 0 && kRows % 16 == 0 && kTile <= kStatisticsTile);
  static constexpr int kWarpBytes = kWarpRows * kStride * 2;  // of the block's own rows, those of a warp
};

template <class T>
__device__ uint32_t pack(float low, float high) {
  uint32_t pair;
  if constexpr (std::is_same_v<T, __half>) {
    const __half2 both = __floats2half2_rn(low, high);
    memcpy(&pair, &both, 4);
  } else {
    const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    memcpy(&pair, &both, 4);
  }
  return pair;
}

/// Eight neighbours of a row, of which some may be past the end of the head.
template <class T>
__device__ Run<T, 8> read_run(const T* from, int count, bool vectors) {
  if (vectors) return *reinterpret_cast<const Run<T, 8>*>(from);
  Run<T, 8> run;
#pragma unroll
  for (int i = 0; i < 8; ++i) run.values[i] = i < count ? from[i] : narrow_to<T>(0);
  return run;
}

/// Starts to copy rows [row0, row0 + kCount) into shared memory; zeros where there are none.
template <class P, int kCount, class T>
__device__ void copy_rows(unsigned char* to, const HeadRows<const T>& x, int row0,
                          const AttentionGradient& p) {
  constexpr int kRuns = P::kD / 8;
  for (int i = static_cast<int>(threadIdx.x); i < kCount * kRuns; i += kThreads) {
    const int row = i / kRuns, column = i % kRuns * 8;
    const bool present = row0 + row < x.rows && column < p.D;
    const T* from = x.data + (present ? (row0 + row) * x.stride + column : 0);
    unsigned char* const place = to + (row * P::kStride + column) * 2;
    if (p.vectors) {
      copy_async(shared_address(place), from, present);
    } else {
      *reinterpret_cast<Run<T, 8>*>(place) = read_run(from, present ? p.D - column : 0, false);
    }
  }
}

/// What a lane has of products of a warp's rows with those of a tile, and of sums: of each strip of 16 rows
/// and each 8 columns those that mma.h says.
template <class P>
using Products = float[P::kStrips][P::kRows / 8][4];
template <class P>
using Sums = float[P::kStrips][P::kSlice / 8][4];
/// Products as the left side of others.
template <class P>
using Weights = uint32_t[P::kStrips][P::kRows / 16][4];

template <class P, class T>
__device__ void pack_weights(const Products<P>& from, Weights<P>& to) {
#pragma unroll
  for (int m = 0; m < P::kStrips; ++m) {
#pragma unroll
    for (int n = 0; n < P::kRows / 16; ++n) {
      const auto &first = from[m][2 * n], &second = from[m][2 * n + 1];
      to[m][n][0] = pack<T>(first[0], first[1]);
      to[m][n][1] = pack<T>(first[2], first[3]);
      to[m][n][2] = pack<T>(second[0], second[1]);
      to[m][n][3] = pack<T>(second[2], second[3]);
    }
  }
}

/// products = a b^T; a are the warp's rows, b kRows rows, both in shared memory.
template <class P, class T>
__device__ void multiply(const unsigned char* a, const unsigned char* b, Products<P>& products) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const SharedAddress from_a = shared_address(a) + (lane % 16 * P::kStride + lane / 16 * 8) * 2;
  const SharedAddress from_b =
      shared_address(b) + ((lane % 8 + lane / 16 * 8) * P::kStride + lane / 8 % 2 * 8) * 2;
#pragma unroll
  for (int m = 0; m < P::kStrips; ++m)
#pragma unroll
    for (int n = 0; n < P::kRows / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) products[m][n][i] = 0;
#pragma unroll
  for (int k = 0; k < P::kD; k += 16) {
    uint32_t left[P::kStrips][4];
#pragma unroll
    for (int m = 0; m < P::kStrips; ++m) load_matrices(left[m], from_a + (m * 16 * P::kStride + k) * 2);
#pragma unroll
    for (int n = 0; n < P::kRows; n += 16) {
      uint32_t right[4];
      load_matrices(right, from_b + (n * P::kStride + k) * 2);
#pragma unroll
      for (int m = 0; m < P::kStrips; ++m) {
        mma<T>(products[m][n / 8], left[m], right[0], right[1]);
        mma<T>(products[m][n / 8 + 1], left[m], right[2], right[3]);
      }
    }
  }
}

/// sums += weights x; x are kRows rows in shared memory, from the slice's first column on.
template <class P, class T>
__device__ void add_rows(const Weights<P>& weights, const unsigned char* x, Sums<P>& sums) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const SharedAddress from = shared_address(x) + (lane % 16 * P::kStride + lane / 16 * 8) * 2;
#pragma unroll
  for (int k = 0; k < P::kRows; k += 16) {
#pragma unroll
    for (int n = 0; n < P::kSlice; n += 16) {
      uint32_t right[4];
      load_matrices_transposed(right, from + (k * P::kStride + n) * 2);
#pragma unroll
      for (int m = 0; m < P::kStrips; ++m) {
        mma<T>(sums[m][n / 8], weights[m][k / 16], right[0], right[1]);
        mma<T>(sums[m][n / 8 + 1], weights[m][k / 16], right[2], right[3]);
      }
    }
  }
}

/// Writes a warp's rows, each times its factor, by way of the warp's part of `place` in shared memory, which
/// no other warp reads.
template <class P, class T>
__device__ void write_rows(const Sums<P>& sums, const float (&factors)[P::kStrips][2], unsigned char* place,
                           const HeadRows<T>& x, int row0, int slice0, const AttentionGradient& p) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  __syncwarp();
#pragma unroll
  for (int m = 0; m < P::kStrips; ++m) {
#pragma unroll
    for (int n = 0; n < P::kSlice / 8; ++n) {
#pragma unroll
      for (int r = 0; r < 2; ++r)
        *reinterpret_cast<uint32_t*>(place +
                                     ((m * 16 + r * 8 + lane / 4) * P::kStride + n * 8 + lane % 4 * 2) * 2) =
            pack<T>(sums[m][n][2 * r] * factors[m][r], sums[m][n][2 * r + 1] * factors[m][r]);
    }
  }
  __syncwarp();
  constexpr int kRuns = P::kSlice / 8;
  for (int i = lane; i < P::kWarpRows * kRuns; i += 32) {
    const int row = i / kRuns, column = slice0 + i % kRuns * 8;
    if (row0 + row >= x.rows || column >= p.D) continue;
    const auto run = *reinterpret_cast<const Run<T, 8>*>(place + (row * P::kStride + i % kRuns * 8) * 2);
    T* to = x.data + (row0 + row) * x.stride + column;
    if (p.vectors) {
      *reinterpret_cast<Run<T, 8>*>(to) = run;
    } else {
#pragma unroll
      for (int c = 0; c < 8; ++c)
        if (column + c < p.D) to[c] = run.values[c];
    }
  }
}

/// The same, in f32 and without rounding to T.
template <class P>
__device__ void write_parts(const Sums<P>& sums, const float (&factors)[P::kStrips][2],
                            const HeadRows<float>& x, int row0, int slice0, const AttentionGradient& p) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int m = 0; m < P::kStrips; ++m) {
#pragma unroll
    for (int i = 0; i < P::kSlice / 2; ++i) {
      const int n = i / 4, r = i / 2 % 2, row = row0 + m * 16 + r * 8 + lane / 4;
      const int column = slice0 + n * 8 + lane % 4 * 2 + i % 2;
      if (row < x.rows && column < p.D)
        x.data[row * x.stride + column] = sums[m][n][2 * r + i % 2] * factors[m][r];
    }
  }
}

/// The power of two that makes `largest` at least 1/16 and less than 1/8; for f16, otherwise 1.
template <class T>
__device__ float factor_of_dy(float largest) {
  if constexpr (!std::is_same_v<T, __half>) return 1;
  int exponent = static_cast<int>(__float_as_uint(largest) >> 23 & 0xff) - 127;
  exponent = exponent < -40 ? -40 : exponent > 40 ? 40 : exponent;
  return __uint_as_float(static_cast<unsigned>(127 - 4 - exponent) << 23);
}

template <class T>
constexpr float kWeightFactor = std::is_same_v<T, __half> ? float(1 << kWeightShift) : 1.0f;

__device__ inline float sum_of_four(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}
__device__ inline float larger_of_four(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

constexpr float kLog2E = 1.44269504f;

/// dq, and the statistics of the rows. Grid [tiles of queries of all heads, slices of the columns].
template <class P, class T>
__global__ void __launch_bounds__(kThreads, P::kBlocks) gradient_of_queries(AttentionGradient p) {
  unsigned char* const shared = dynamic_shared<unsigned char>();
  unsigned char* const own_q = shared;
  unsigned char* const own_dy = shared + P::kOwnBytes;
  unsigned char* const stages = shared + 2 * P::kOwnBytes;
  const int tiles = (p.T + P::kTile - 1) / P::kTile;
  const int head = static_cast<int>(blockIdx.x) / tiles;
  const int tile = tiles - 1 - static_cast<int>(blockIdx.x) % tiles;  // where causal, the longest come first
  const int t0 = tile * P::kTile, slice0 = static_cast<int>(blockIdx.y) * P::kSlice;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const auto k = head_rows(static_cast<const T*>(p.k), p.S, p, head);
  const auto v = head_rows(static_cast<const T*>(p.v), p.S, p, head);
  const auto y = head_rows(static_cast<const T*>(p.y), p.T, p, head);
  const auto dy = head_rows(static_cast<const T*>(p.dy), p.T, p, head);
  const T* const bias = head_bias<T>(p, head);
  const int seen = p.causal && t0 + P::kTile < p.S ? t0 + P::kTile : p.S;
  const auto copy_tile = [&](int s0, int stage) {
    unsigned char* const to = stages + stage * P::kStageBytes;
    copy_rows<P, P::kRows>(to, k, s0, p);
    copy_rows<P, P::kRows>(to + P::kLoopBytes, v, s0, p);
    commit_copies();
  };
  copy_rows<P, P::kTile>(own_q, head_rows(static_cast<const T*>(p.q), p.T, p, head), t0, p);
  copy_rows<P, P::kTile>(own_dy, dy, t0, p);
  copy_tile(0, 0);

  // A lane has rows g and g + 8 of each strip.
  const int row0 = t0 + warp * P::kWarpRows + lane / 4;
  float delta[P::kStrips][2] = {}, dy_factor[P::kStrips][2], largest = 0;
#pragma unroll
  for (int m = 0; m < P::kStrips; ++m) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int t = row0 + m * 16 + r * 8;
      float largest_of_row = 0;
      for (int c = lane % 4 * 8; c < p.D && t < p.T; c += 32) {
        const auto of_dy = read_run(dy.data + t * dy.stride + c, p.D - c, p.vectors);
        const auto of_y = read_run(y.data + t * y.stride + c, p.D - c, p.vectors);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          delta[m][r] = fmaf(widen(of_dy.values[i]), widen(of_y.values[i]), delta[m][r]);
          largest_of_row = fmaxf(largest_of_row, fabsf(widen(of_dy.values[i])));
        }
      }
      largest_of_row = larger_of_four(largest_of_row);
      largest = fmaxf(largest, largest_of_row);
      dy_factor[m][r] = factor_of_dy<T>(largest_of_row);
      delta[m][r] = sum_of_four(delta[m][r]) * dy_factor[m][r];
    }
  }

  const float scale = p.scale * kLog2E, bias_factor = 1 / p.scale;
  float top[P::kStrips][2], total[P::kStrips][2] = {}, base[P::kStrips][2] = {};
#pragma unroll
  for (int m = 0; m < P::kStrips; ++m) top[m][0] = top[m][1] = -INFINITY;
  Sums<P> sums = {};
  int stage = 0;
  for (int s0 = 0; s0 < seen; s0 += P::kRows) {
    wait_for_copies<0>();
    __syncthreads();
    if (P::kStages == 2 && s0 + P::kRows < seen) copy_tile(s0 + P::kRows, 1 - stage);
    const unsigned char* const keys = stages + stage * P::kStageBytes;
    Products<P> scores, dp;
    multiply<P, T>(own_q + warp * P::kWarpBytes, keys, scores);
    if (bias || s0 + P::kRows > p.S || (p.causal && s0 + P::kRows > t0)) {
#pragma unroll
      for (int m = 0; m < P::kStrips; ++m) {
#pragma unroll
        for (int n = 0; n < P::kRows / 8; ++n) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const int t = row0 + m * 16 + i / 2 * 8, s = s0 + n * 8 + lane % 4 * 2 + i % 2;
            if (s >= p.S || (p.causal && s > t)) {
              scores[m][n][i] = -INFINITY;
            } else if (bias && t < p.T) {
              const float more = widen(bias[static_cast<int64_t>(t) * p.S + s]);
              scores[m][n][i] = fmaf(more, bias_factor, scores[m][n][i]);
            }
          }
        }
      }
    }
    multiply<P, T>(own_dy + warp * P::kWarpBytes, keys + P::kLoopBytes, dp);
#pragma unroll
    for (int m = 0; m < P::kStrips; ++m) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float highest = top[m][r];
#pragma unroll
        for (int n = 0; n < P::kRows / 8; ++n)
          highest = fmaxf(highest, fmaxf(scores[m][n][2 * r], scores[m][n][2 * r + 1]));
        highest = larger_of_four(highest);
        base[m][r] = highest == -INFINITY ? 0 : highest * scale;
        const float shrink = exp2_flushed(fmaf(top[m][r], scale, -base[m][r]));
        top[m][r] = highest;
        total[m][r] *= shrink;
#pragma unroll
        for (int n = 0; n < P::kSlice / 8; ++n) {
          sums[m][n][2 * r] *= shrink;
          sums[m][n][2 * r + 1] *= shrink;
        }
      }
#pragma unroll
      for (int n = 0; n < P::kRows / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float weight = exp2_flushed(fmaf(scores[m][n][i], scale, -base[m][i / 2]));
          total[m][i / 2] += weight;
          dp[m][n][i] = weight * fmaf(dp[m][n][i], dy_factor[m][i / 2], -delta[m][i / 2]);
        }
      }
    }
    Weights<P> ds;
    pack_weights<P, T>(dp, ds);
    add_rows<P, T>(ds, keys + slice0 * 2, sums);
    if constexpr (P::kStages == 2) {
      stage = 1 - stage;
    } else if (s0 + P::kRows < seen) {
      __syncthreads();  // the tile is still read
      copy_tile(s0 + P::kRows, 0);
    }
  }

  float factors[P::kStrips][2];
#pragma unroll
  for (int m = 0; m < P::kStrips; ++m) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int t = row0 + m * 16 + r * 8;
      const float all = sum_of_four(total[m][r]);
      factors[m][r] = all == 0 ? 0 : p.scale / all / dy_factor[m][r];
      if (slice0 > 0 || lane % 4 > 0) continue;
      const int64_t of = head * p.statistics_stride + t;
      p.highest[of] = t >= p.T || all == 0 ? INFINITY : base[m][r] + log2f(all);
      p.delta[of] = t < p.T ? delta[m][r] / dy_factor[m][r] : 0;
    }
  }
  if (slice0 == 0) {
    largest = block_reduce<Larger>(largest, 0.0f);
    if (threadIdx.x == 0) p.largest[static_cast<int64_t>(head) * tiles + tile] = largest;
  }
  write_rows<P, T>(sums, factors, own_q + warp * P::kWarpBytes,
                   head_rows(static_cast<T*>(p.dq), p.T, p, head), t0 + warp * P::kWarpRows, slice0, p);
}

/// dk and dv. Grid [tiles of keys of all heads, slices of the columns, splits].
template <class P, class T>
__global__ void __launch_bounds__(kThreads, P::kBlocks) gradient_of_keys(AttentionGradient p) {
  unsigned char* const shared = dynamic_shared<unsigned char>();
  unsigned char* const own_k = shared;
  unsigned char* const own_v = shared + P::kOwnBytes;
  unsigned char* const stages = shared + 2 * P::kOwnBytes;
  const int tiles = (p.S + P::kTile - 1) / P::kTile;
  const int head = static_cast<int>(blockIdx.x) / tiles, s0 = static_cast<int>(blockIdx.x) % tiles * P::kTile;
  const int slice0 = static_cast<int>(blockIdx.y) * P::kSlice;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const auto q = head_rows(static_cast<const T*>(p.q), p.T, p, head);
  const auto dy = head_rows(static_cast<const T*>(p.dy), p.T, p, head);
  const T* const bias = head_bias<T>(p, head);
  const auto copy_tile = [&](int t0, int stage) {
    unsigned char* const to = stages + stage * P::kStageBytes;
    copy_rows<P, P::kRows>(to, q, t0, p);
    copy_rows<P, P::kRows>(to + P::kLoopBytes, dy, t0, p);
    constexpr int kRuns = P::kRows / 4;
    const int run = static_cast<int>(threadIdx.x);
    if (run < 2 * kRuns) {
      const float* const from = run < kRuns ? p.highest : p.delta;
      copy_async(shared_address(to + 2 * P::kLoopBytes + run * 16),
                 from + head * p.statistics_stride + t0 + run % kRuns * 4);
    }
    commit_copies();
  };
  const QueryRange range = query_range(p, s0);
  int t0 = range.begin;
  if (t0 < range.end) {
    copy_rows<P, P::kTile>(own_k, head_rows(static_cast<const T*>(p.k), p.S, p, head), s0, p);
    copy_rows<P, P::kTile>(own_v, head_rows(static_cast<const T*>(p.v), p.S, p, head), s0, p);
    copy_tile(t0, 0);
  }
  float largest = 0;
  if constexpr (std::is_same_v<T, __half>) {
    for (int i = lane; i < p.query_tiles; i += 32)
      largest = fmaxf(largest, p.largest[static_cast<int64_t>(head) * p.query_tiles + i]);
    largest = warp_reduce<Larger>(largest);
  }
  const float dy_factor = factor_of_dy<T>(largest) / kWeightFactor<T>;

  const float scale = p.scale * kLog2E, bias_factor = 1 / p.scale;
  const float weight_shift = std::is_same_v<T, __half> ? kWeightShift : 0;
  const int row0 = s0 + warp * P::kWarpRows + lane / 4;
  Sums<P> of_keys = {}, of_values = {};
  int stage = 0;
  for (; t0 < range.end; t0 += P::kRows) {
    wait_for_copies<0>();
    __syncthreads();
    if (P::kStages == 2 && t0 + P::kRows < range.end) copy_tile(t0 + P::kRows, 1 - stage);
    const unsigned char* const queries = stages + stage * P::kStageBytes;
    const float* const statistics = reinterpret_cast<const float*>(queries + 2 * P::kLoopBytes);
    Products<P> weights, ds;
    multiply<P, T>(own_k + warp * P::kWarpBytes, queries, weights);
    const bool ends = p.causal && t0 < s0 + P::kTile;  // some of the queries do not see some of the keys
    if (bias || ends) {
#pragma unroll
      for (int m = 0; m < P::kStrips; ++m) {
#pragma unroll
        for (int n = 0; n < P::kRows / 8; ++n) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const int s = row0 + m * 16 + i / 2 * 8, t = t0 + n * 8 + lane % 4 * 2 + i % 2;
            if (ends && s > t) {
              weights[m][n][i] = -INFINITY;
            } else if (bias && s < p.S && t < p.T) {
              const float more = widen(bias[static_cast<int64_t>(t) * p.S + s]);
              weights[m][n][i] = fmaf(more, bias_factor, weights[m][n][i]);
            }
          }
        }
      }
    }
    multiply<P, T>(own_v + warp * P::kWarpBytes, queries + P::kLoopBytes, ds);
#pragma unroll
    for (int n = 0; n < P::kRows / 8; ++n) {
      const auto highest = *reinterpret_cast<const Run<float, 2>*>(statistics + n * 8 + lane % 4 * 2);
      const auto delta =
          *reinterpret_cast<const Run<float, 2>*>(statistics + P::kRows + n * 8 + lane % 4 * 2);
#pragma unroll
      for (int m = 0; m < P::kStrips; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          weights[m][n][i] =
              exp2_flushed(fmaf(weights[m][n][i], scale, weight_shift - highest.values[i % 2]));
          ds[m][n][i] = weights[m][n][i] * ((ds[m][n][i] - delta.values[i % 2]) * dy_factor);
        }
      }
    }
    Weights<P> left;
    pack_weights<P, T>(weights, left);
    add_rows<P, T>(left, queries + P::kLoopBytes + slice0 * 2, of_values);
    pack_weights<P, T>(ds, left);
    add_rows<P, T>(left, queries + slice0 * 2, of_keys);
    if constexpr (P::kStages == 2) {
      stage = 1 - stage;
    } else if (t0 + P::kRows < range.end) {
      __syncthreads();  // the tile is still read
      copy_tile(t0 + P::kRows, 0);
    }
  }
  float of_k[P::kStrips][2], of_v[P::kStrips][2];
#pragma unroll
  for (int m = 0; m < P::kStrips; ++m) {
    of_k[m][0] = of_k[m][1] = p.scale / kWeightFactor<T> / dy_factor;
    of_v[m][0] = of_v[m][1] = 1 / kWeightFactor<T>;
  }
  if (p.splits > 1) {
    write_parts<P>(of_keys, of_k, part_rows(p, 0, head), s0 + warp * P::kWarpRows, slice0, p);
    write_parts<P>(of_values, of_v, part_rows(p, 1, head), s0 + warp * P::kWarpRows, slice0, p);
    return;
  }
  write_rows<P, T>(of_keys, of_k, own_k + warp * P::kWarpBytes,
                   head_rows(static_cast<T*>(p.dk), p.S, p, head), s0 + warp * P::kWarpRows, slice0, p);
  write_rows<P, T>(of_values, of_v, own_v + warp * P::kWarpBytes,
                   head_rows(static_cast<T*>(p.dv), p.S, p, head), s0 + warp * P::kWarpRows, slice0, p);
}

template <class Queries, class Keys, class T>
void launch_both(AttentionGradient p) {
  p.query_tiles = static_cast<int>(ceil_div(p.T, Queries::kTile));
  const auto blocks = [&](int rows, int tile, int slice) {
    return dim3(static_cast<unsigned>(p.batch * p.heads * ceil_div(rows, tile)),
                static_cast<unsigned>(ceil_div(p.D, slice)));
  };
  allow_shared_memory(gradient_of_queries<Queries, T>, Queries::kSharedBytes);
  allow_shared_memory(gradient_of_keys<Keys, T>, Keys::kSharedBytes);
  launch(gradient_of_queries<Queries, T>, blocks(p.T, Queries::kTile, Queries::kSlice), kThreads,
         Queries::kSharedBytes, p);
  dim3 grid = blocks(p.S, Keys::kTile, Keys::kSlice);
  const int64_t room = static_cast<int64_t>(limits().multiprocessors) * Keys::kBlocks;
  const Tensor parts = split_queries(p, static_cast<int64_t>(grid.x) * grid.y, room);
  grid.z = static_cast<unsigned>(p.splits);
  launch(gradient_of_keys<Keys, T>, grid, kThreads, Keys::kSharedBytes, p);
  add_parts(p);
}

/// False, and nothing done, where the device has too little shared memory.
template <class Queries, class Keys>
bool try_both(const AttentionGradient& p) {
  if (Queries::kSharedBytes > limits().shared_memory || Keys::kSharedBytes > limits().shared_memory)
    return false;
  if (p.dtype == DType::F16) {
    launch_both<Queries, Keys, __half>(p);
  } else {
    launch_both<Queries, Keys, __nv_bfloat16>(p);
  }
  return true;
}

}  // namespace sinopia::cuda::attention_mma
