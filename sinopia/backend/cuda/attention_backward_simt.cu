#include <cmath>

#include "sinopia/backend/cuda/attention_backward.h"
#include "sinopia/backend/cuda/elements.h"
#include "sinopia/backend/cuda/runtime.h"

// A block has 64 queries (or keys), its warps 8 each, and goes over the keys (or queries) 64 at a time: two
// products of rows with rows give scores and dp, of which each thread has 2 x 8; they become the weights of
// sums of rows, kSlice columns of which each block keeps in registers.

namespace sinopia::cuda {
namespace {

constexpr int kTile = 64, kThreads = 256;
constexpr int kChunk = 32;  // columns of a product that are in shared memory at a time, and rows of a sum
constexpr int kChunkStride = kChunk + 4, kWeightStride = kTile + 4;  // no two rows in the same banks

__host__ __device__ constexpr int chunk_floats(int slice) {
  return slice * kChunk > 2 * kTile * kChunkStride ? slice * kChunk : 2 * kTile * kChunkStride;
}

/// Which of a tile's rows and columns a thread has: rows row + 4 i, columns column + 8 j.
struct Place {
  int row, column;
};
__device__ Place place() {
  const int thread = static_cast<int>(threadIdx.x);
  return {thread / 32 * 8 + thread % 32 / 8, thread % 8};
}

/// Four neighbours of a row; zeros outside.
template <class T>
__device__ float4 read_four(const HeadRows<const T>& x, int row, int column, int columns, bool vectors) {
  float values[4] = {};
  if (row < x.rows && column < columns) {
    const T* from = x.data + row * x.stride + column;
    if (vectors) {
      const auto run = *reinterpret_cast<const Run<T, 4>*>(from);
#pragma unroll
      for (int i = 0; i < 4; ++i) values[i] = widen(run.values[i]);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (column + i < columns) values[i] = widen(from[i]);
    }
  }
  return {values[0], values[1], values[2], values[3]};
}

__device__ void add_products(float4 a, float4 b, float& sum) {
  sum = fmaf(a.x, b.x, sum);
  sum = fmaf(a.y, b.y, sum);
  sum = fmaf(a.z, b.z, sum);
  sum = fmaf(a.w, b.w, sum);
}

__device__ void add_scaled(float weight, float4 b, float* sums) {
  sums[0] = fmaf(weight, b.x, sums[0]);
  sums[1] = fmaf(weight, b.y, sums[1]);
  sums[2] = fmaf(weight, b.z, sums[2]);
  sums[3] = fmaf(weight, b.w, sums[3]);
}

/// products = a b^T for 64 rows of each, from row a0 and b0 on.
template <class T>
__device__ void multiply(const HeadRows<const T>& a, int a0, const HeadRows<const T>& b, int b0,
                         const AttentionGradient& p, float* chunks, float (&products)[2][8]) {
  const Place at = place();
  const int thread = static_cast<int>(threadIdx.x);
  float4 next_a[2], next_b[2];
  const auto read = [&](int column) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = thread / 8 + 32 * i, of = column + thread % 8 * 4;
      next_a[i] = read_four(a, a0 + row, of, p.D, p.vectors);
      next_b[i] = read_four(b, b0 + row, of, p.D, p.vectors);
    }
  };
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int j = 0; j < 8; ++j) products[i][j] = 0;
  float* const a_chunk = chunks;
  float* const b_chunk = chunks + kTile * kChunkStride;
  for (int c = 0; c < p.D; c += kChunk) {
    read(c);
    __syncthreads();  // what was there may still be read
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int to = (thread / 8 + 32 * i) * kChunkStride + thread % 8 * 4;
      *reinterpret_cast<float4*>(a_chunk + to) = next_a[i];
      *reinterpret_cast<float4*>(b_chunk + to) = next_b[i];
    }
    __syncthreads();
    const int depth = p.D - c < kChunk ? p.D - c : kChunk;
#pragma unroll 1
    for (int d = 0; d < depth; d += 4) {
      float4 of_a[2];
#pragma unroll
      for (int i = 0; i < 2; ++i)
        of_a[i] = *reinterpret_cast<const float4*>(a_chunk + (at.row + 4 * i) * kChunkStride + d);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const auto of_b = *reinterpret_cast<const float4*>(b_chunk + (at.column + 8 * j) * kChunkStride + d);
#pragma unroll
        for (int i = 0; i < 2; ++i) add_products(of_a[i], of_b, products[i][j]);
      }
    }
  }
}

/// Hands the weights of a warp's rows to all its lanes.
__device__ void share(const float (&values)[2][8], float* weights) {
  const Place at = place();
  __syncwarp();  // what was there may still be read
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int j = 0; j < 8; ++j) weights[(at.row + 4 * i) * kWeightStride + at.column + 8 * j] = values[i][j];
  __syncwarp();
}

/// sums += weights [64,64] times columns [slice0, slice0 + kSlice) of rows [x0, x0 + 64); a thread has
/// columns 4 column + 32 j + (0..3).
template <class T, int kSlice>
__device__ void add_rows(const float* weights, const HeadRows<const T>& x, int x0, int slice0,
                         const AttentionGradient& p, float* chunk, float (&sums)[2][kSlice / 8]) {
  const Place at = place();
  const int thread = static_cast<int>(threadIdx.x);
  for (int first = 0; first < kTile && x0 + first < x.rows; first += kChunk) {
    float4 next[kSlice / 32];
#pragma unroll
    for (int i = 0; i < kSlice / 32; ++i) {
      const int run = thread + kThreads * i, row = run / (kSlice / 4), column = run % (kSlice / 4) * 4;
      next[i] = read_four(x, x0 + first + row, slice0 + column, p.D, p.vectors);
    }
    __syncthreads();  // what was there may still be read
#pragma unroll
    for (int i = 0; i < kSlice / 32; ++i)
      *reinterpret_cast<float4*>(chunk + (thread + kThreads * i) * 4) = next[i];
    __syncthreads();
#pragma unroll 1
    for (int k = 0; k < kChunk; k += 4) {
      float of_rows[2][4];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const auto four =
            *reinterpret_cast<const float4*>(weights + (at.row + 4 * i) * kWeightStride + first + k);
        of_rows[i][0] = four.x, of_rows[i][1] = four.y, of_rows[i][2] = four.z, of_rows[i][3] = four.w;
      }
#pragma unroll
      for (int l = 0; l < 4; ++l) {
#pragma unroll
        for (int j = 0; j < kSlice / 32; ++j) {
          const auto b = *reinterpret_cast<const float4*>(chunk + (k + l) * kSlice + at.column * 4 + 32 * j);
#pragma unroll
          for (int i = 0; i < 2; ++i) add_scaled(of_rows[i][l], b, sums[i] + 4 * j);
        }
      }
    }
  }
}

/// Writes a thread's sums, times a factor for each row.
template <class T, int kSlice>
__device__ void write_rows(const float (&sums)[2][kSlice / 8], const float (&factors)[2],
                           const HeadRows<T>& x, int x0, int slice0, const AttentionGradient& p) {
  const Place at = place();
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = x0 + at.row + 4 * i;
    if (row >= x.rows) continue;
#pragma unroll
    for (int j = 0; j < kSlice / 32; ++j) {
      const int column = slice0 + at.column * 4 + 32 * j;
      if (column >= p.D) continue;
      T* to = x.data + row * x.stride + column;
      Run<T, 4> run;
#pragma unroll
      for (int l = 0; l < 4; ++l) run.values[l] = narrow_to<T>(sums[i][4 * j + l] * factors[i]);
      if (p.vectors) {
        *reinterpret_cast<Run<T, 4>*>(to) = run;
      } else {
#pragma unroll
        for (int l = 0; l < 4; ++l)
          if (column + l < p.D) to[l] = run.values[l];
      }
    }
  }
}

/// The sum over the 8 lanes that share a row.
__device__ float sum_of_row(float x) {
  for (int bits = 1; bits < 8; bits *= 2) x += __shfl_xor_sync(0xffffffffu, x, bits);
  return x;
}

/// dq, and the statistics of the rows. Grid [tiles of queries of all heads, slices of the columns].
template <class T, int kSlice>
__global__ void __launch_bounds__(kThreads, kSlice <= 64 ? 2 : 1) gradient_of_queries(AttentionGradient p) {
  alignas(16) __shared__ float chunks[chunk_floats(kSlice)];
  alignas(16) __shared__ float weights[kTile * kWeightStride];
  const int tiles = (p.T + kTile - 1) / kTile;
  const int head = static_cast<int>(blockIdx.x) / tiles;
  const int t0 =
      (tiles - 1 - static_cast<int>(blockIdx.x) % tiles) * kTile;  // where causal, the longest come first
  const int slice0 = static_cast<int>(blockIdx.y) * kSlice;
  const auto q = head_rows(static_cast<const T*>(p.q), p.T, p, head);
  const auto k = head_rows(static_cast<const T*>(p.k), p.S, p, head);
  const auto v = head_rows(static_cast<const T*>(p.v), p.S, p, head);
  const auto y = head_rows(static_cast<const T*>(p.y), p.T, p, head);
  const auto dy = head_rows(static_cast<const T*>(p.dy), p.T, p, head);
  const T* bias = head_bias<T>(p, head);
  const Place at = place();

  float delta[2] = {}, highest[2] = {-INFINITY, -INFINITY}, total[2] = {};
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int t = t0 + at.row + 4 * i;
    if (t < p.T)
      for (int c = at.column; c < p.D; c += 8)
        delta[i] = fmaf(widen(dy.data[t * dy.stride + c]), widen(y.data[t * y.stride + c]), delta[i]);
    delta[i] = sum_of_row(delta[i]);
  }
  float sums[2][kSlice / 8] = {};
  const int seen = p.causal && t0 + kTile < p.S ? t0 + kTile : p.S;
  for (int s0 = 0; s0 < seen; s0 += kTile) {
    float scores[2][8], dp[2][8];
    multiply(q, t0, k, s0, p, chunks, scores);
    multiply(dy, t0, v, s0, p, chunks, dp);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int t = t0 + at.row + 4 * i;
      const auto sees = [&](int s) { return s < p.S && t < p.T && (!p.causal || s <= t); };
      float top = highest[i];
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const int s = s0 + at.column + 8 * j;
        float score = -INFINITY;
        if (sees(s)) {
          score = scores[i][j] * p.scale;
          if (bias) score += widen(bias[static_cast<int64_t>(t) * p.S + s]);
        }
        scores[i][j] = score;
        top = fmaxf(top, score);
      }
      for (int bits = 1; bits < 8; bits *= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, bits));
      const float base = top == -INFINITY ? 0 : top;
      const float shrink = expf(highest[i] - base);
      highest[i] = top;
      float more = 0;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float weight = expf(scores[i][j] - base);
        more += weight;
        scores[i][j] = sees(s0 + at.column + 8 * j) ? weight * (dp[i][j] - delta[i]) : 0;
      }
      total[i] = fmaf(total[i], shrink, more);
#pragma unroll
      for (int c = 0; c < kSlice / 8; ++c) sums[i][c] *= shrink;
    }
    share(scores, weights);
    add_rows<T, kSlice>(weights, k, s0, slice0, p, chunks, sums);
  }
  float factors[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    total[i] = sum_of_row(total[i]);
    const float factor = total[i] == 0 ? 0 : 1 / total[i];
    factors[i] = factor * p.scale;
    const int t = t0 + at.row + 4 * i;
    if (slice0 > 0 || at.column > 0 || t >= p.T) continue;
    const int64_t of = head * p.statistics_stride + t;
    p.highest[of] = highest[i] == -INFINITY ? 0 : highest[i];
    p.factor[of] = factor;
    p.delta[of] = delta[i];
  }
  write_rows<T, kSlice>(sums, factors, head_rows(static_cast<T*>(p.dq), p.T, p, head), t0, slice0, p);
}

/// dk and dv. Grid [tiles of keys of all heads, slices of the columns, splits].
template <class T, int kSlice>
__global__ void __launch_bounds__(kThreads, kSlice <= 64 ? 2 : 1) gradient_of_keys(AttentionGradient p) {
  alignas(16) __shared__ float chunks[chunk_floats(kSlice)];
  alignas(16) __shared__ float weights[kTile * kWeightStride];
  const int tiles = (p.S + kTile - 1) / kTile;
  const int head = static_cast<int>(blockIdx.x) / tiles, s0 = static_cast<int>(blockIdx.x) % tiles * kTile;
  const int slice0 = static_cast<int>(blockIdx.y) * kSlice;
  const auto q = head_rows(static_cast<const T*>(p.q), p.T, p, head);
  const auto k = head_rows(static_cast<const T*>(p.k), p.S, p, head);
  const auto v = head_rows(static_cast<const T*>(p.v), p.S, p, head);
  const auto dy = head_rows(static_cast<const T*>(p.dy), p.T, p, head);
  const T* bias = head_bias<T>(p, head);
  const Place at = place();

  float of_keys[2][kSlice / 8] = {}, of_values[2][kSlice / 8] = {};
  const QueryRange range = query_range(p, s0);
  for (int t0 = range.begin; t0 < range.end; t0 += kTile) {
    float p_transposed[2][8], dp[2][8];
    multiply(k, s0, q, t0, p, chunks, p_transposed);
    multiply(v, s0, dy, t0, p, chunks, dp);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int t = t0 + at.column + 8 * j;
      const int64_t of = head * p.statistics_stride + (t < p.T ? t : 0);
      const float highest = p.highest[of], factor = p.factor[of], delta = p.delta[of];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int s = s0 + at.row + 4 * i;
        float weight = 0, ds = 0;
        if (s < p.S && t < p.T && (!p.causal || s <= t)) {
          float score = p_transposed[i][j] * p.scale;
          if (bias) score += widen(bias[static_cast<int64_t>(t) * p.S + s]);
          weight = expf(score - highest) * factor;
          ds = weight * (dp[i][j] - delta);
        }
        p_transposed[i][j] = weight;
        dp[i][j] = ds;
      }
    }
    share(p_transposed, weights);
    add_rows<T, kSlice>(weights, dy, t0, slice0, p, chunks, of_values);
    share(dp, weights);
    add_rows<T, kSlice>(weights, q, t0, slice0, p, chunks, of_keys);
  }
  const float ones[2] = {1, 1}, scales[2] = {p.scale, p.scale};
  if (p.splits > 1) {
    write_rows<float, kSlice>(of_keys, scales, part_rows(p, 0, head), s0, slice0, p);
    write_rows<float, kSlice>(of_values, ones, part_rows(p, 1, head), s0, slice0, p);
    return;
  }
  write_rows<T, kSlice>(of_keys, scales, head_rows(static_cast<T*>(p.dk), p.S, p, head), s0, slice0, p);
  write_rows<T, kSlice>(of_values, ones, head_rows(static_cast<T*>(p.dv), p.S, p, head), s0, slice0, p);
}

template <class T, int kSlice>
void launch_both(AttentionGradient p) {
  const auto slices = static_cast<unsigned>(ceil_div(p.D, kSlice));
  const auto blocks = [&](int64_t rows) {
    return dim3(static_cast<unsigned>(p.batch * p.heads * ceil_div(rows, kTile)), slices);
  };
  launch(gradient_of_queries<T, kSlice>, blocks(p.T), kThreads, 0, p);
  dim3 grid = blocks(p.S);
  const Tensor parts = split_queries(p, static_cast<int64_t>(grid.x) * grid.y, limits().multiprocessors);
  grid.z = static_cast<unsigned>(p.splits);
  launch(gradient_of_keys<T, kSlice>, grid, kThreads, 0, p);
  add_parts(p);
}

}  // namespace

void attention_backward_simt(const AttentionGradient& p) {
  if (p.dtype == DType::F16) return launch_both<__half, 128>(p);
  if (p.dtype == DType::BF16) return launch_both<__nv_bfloat16, 128>(p);
  // As few columns past the end of a head as may be, and no more slices than needed.
  if (p.D <= 32) return launch_both<float, 32>(p);
  if (p.D <= 64) return launch_both<float, 64>(p);
  if (p.D <= 96) return launch_both<float, 96>(p);
  if (p.D > 128 && p.D <= 160) return launch_both<float, 160>(p);
  launch_both<float, 128>(p);
}

}  // namespace sinopia::cuda
