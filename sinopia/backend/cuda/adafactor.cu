#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/backend/cuda/divisor.h"
#include "sinopia/backend/cuda/elements.h"
#include "sinopia/backend/cuda/packed_weights.h"
#include "sinopia/backend/cuda/reductions.h"
#include "sinopia/backend/cuda/runtime.h"
#include "sinopia/backend/cuda/stored_weights.h"

namespace sinopia {
namespace cuda {
namespace {

constexpr int kThreads = 256;

// w is `matrices` matrices [R,C]; without factors, one row.
struct Matrices {
  int64_t count, R, C;
};

/// How the means of the squared gradient go on.
struct Following {
  float scale, eps, keep, fresh_row, fresh_column;

  __device__ double square(float gradient) const {
    const float g = gradient * scale;
    return static_cast<double>(g * g + eps);
  }
  __device__ float row(float old, double sum) const {
    return old * keep + static_cast<float>(sum) * fresh_row;
  }
  __device__ float column(float old, double sum) const {
    return old * keep + static_cast<float>(sum) * fresh_column;
  }
};

/// What is known of each row and each column: the mean of its squares, and its factor of an update.
struct Factors {
  float *rows, *columns;                ///< [count,R] and [count,C], kept from step to step
  float *row_factors, *column_factors;  ///< the same extents
};

__device__ inline float inverse_root(float x) { return 1 / sqrtf(x); }

// means of squares

constexpr int64_t kTinyMatrix = 64;

/// Matrices of up to kTinyMatrix elements, one a thread.
__global__ void follow_tiny(const float* gradient, Following following, Matrices m, Factors f) {
  const int64_t matrix = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (matrix >= m.count) return;
  const float* g = gradient + matrix * m.R * m.C;
  float *rows = f.rows + matrix * m.R, *columns = f.columns + matrix * m.C;
  double total = 0;
  for (int64_t r = 0; r < m.R; ++r) {
    double sum = 0;
    for (int64_t c = 0; c < m.C; ++c) sum += following.square(g[r * m.C + c]);
    const float row = following.row(rows[r], sum);
    rows[r] = row;
    total += static_cast<double>(row);
  }
  const auto mean = static_cast<float>(total / static_cast<double>(m.R));
  for (int64_t r = 0; r < m.R; ++r) f.row_factors[matrix * m.R + r] = inverse_root(rows[r] / mean);
  for (int64_t c = 0; c < m.C; ++c) {
    double sum = 0;
    for (int64_t r = 0; r < m.R; ++r) sum += following.square(g[r * m.C + c]);
    const float column = following.column(columns[c], sum);
    columns[c] = column;
    f.column_factors[matrix * m.C + c] = inverse_root(column);
  }
}

constexpr int kTileRows = 64, kTileColumns = 128, kWarps = kThreads / 32, kLaneColumns = kTileColumns / 32;

struct Tiles {
  int64_t down, across;  ///< of a matrix
  double* rows;          ///< the sums of each row within a tile [across, count * R]
  double* columns;       ///< the sums of each column within a tile [down, count * C]
};

/// A block has a tile of a matrix, a warp every eighth row of it, and a lane every 32nd column: the gradient
/// is read once for both sums.
__global__ void sum_tiles(const float* gradient, Following following, Matrices m, Tiles tiles) {
  const int64_t across = blockIdx.x % tiles.across, strip = blockIdx.x / tiles.across;
  const int64_t matrix = strip / tiles.down, down = strip % tiles.down;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int64_t first = across * kTileColumns + lane, end = (down + 1) * kTileRows;
  double columns[kLaneColumns] = {};
  for (int64_t r = down * kTileRows + warp; r < end && r < m.R; r += kWarps) {
    const float* g = gradient + (matrix * m.R + r) * m.C;
    double row = 0;
#pragma unroll
    for (int k = 0; k < kLaneColumns; ++k) {
      const int64_t c = first + k * 32;
      if (c >= m.C) continue;
      const double square = following.square(g[c]);
      row += square;
      columns[k] += square;
    }
    row = warp_reduce<Plus>(row);
    if (lane == 0) tiles.rows[(across * m.count + matrix) * m.R + r] = row;
  }
  __shared__ double of_warps[kWarps][kTileColumns];
#pragma unroll
  for (int k = 0; k < kLaneColumns; ++k) of_warps[warp][k * 32 + lane] = columns[k];
  __syncthreads();
  const int64_t c = across * kTileColumns + threadIdx.x;
  if (threadIdx.x >= kTileColumns || c >= m.C) return;
  double sum = 0;
#pragma unroll
  for (int k = 0; k < kWarps; ++k) sum += of_warps[k][threadIdx.x];
  tiles.columns[(down * m.count + matrix) * m.C + c] = sum;
}

/// One thread a row or column.
__global__ void follow_tiles(Following following, Matrices m, Tiles tiles, Factors f) {
  int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t rows = m.count * m.R, columns = m.count * m.C;
  double sum = 0;
  if (at < rows) {
    for (int64_t k = 0; k < tiles.across; ++k) sum += tiles.rows[k * rows + at];
    f.rows[at] = following.row(f.rows[at], sum);
    return;
  }
  at -= rows;
  if (at >= columns) return;
  for (int64_t k = 0; k < tiles.down; ++k) sum += tiles.columns[k * columns + at];
  const float column = following.column(f.columns[at], sum);
  f.columns[at] = column;
  f.column_factors[at] = inverse_root(column);
}

/// One block a matrix: the factors of rows are relative to their mean.
__global__ void set_row_factors(Matrices m, Factors f) {
  const float* rows = f.rows + blockIdx.x * m.R;
  double sum = 0;
  for (int64_t r = threadIdx.x; r < m.R; r += blockDim.x) sum += static_cast<double>(rows[r]);
  sum = block_reduce<Plus>(sum, 0.0);
  const auto mean = static_cast<float>(sum / static_cast<double>(m.R));
  for (int64_t r = threadIdx.x; r < m.R; r += blockDim.x)
    f.row_factors[blockIdx.x * m.R + r] = inverse_root(rows[r] / mean);
}

void follow(const float* gradient, const Following& following, const Matrices& m, const Factors& f) {
  const auto blocks = [](int64_t threads) {
    return dim3(static_cast<unsigned>(ceil_div(threads, kThreads)));
  };
  if (m.R * m.C <= kTinyMatrix)
    return launch(follow_tiny, blocks(m.count), dim3(kThreads), 0, gradient, following, m, f);
  Tiles tiles{ceil_div(m.R, kTileRows), ceil_div(m.C, kTileColumns), nullptr, nullptr};
  const int64_t row_sums = tiles.across * m.count * m.R, column_sums = tiles.down * m.count * m.C;
  Tensor sums = scratch(static_cast<size_t>(row_sums + column_sums) * sizeof(double));
  tiles.rows = static_cast<double*>(sums.raw());
  tiles.columns = tiles.rows + row_sums;
  launch(sum_tiles, dim3(static_cast<unsigned>(m.count * tiles.down * tiles.across)), dim3(kThreads), 0,
         gradient, following, m, tiles);
  launch(follow_tiles, blocks(m.count * (m.R + m.C)), dim3(kThreads), 0, following, m, tiles, f);
  launch(set_row_factors, dim3(static_cast<unsigned>(m.count)), dim3(m.R > 2048 ? 1024 : 128), 0, m, f);
}

// updates

constexpr int kRun = 4;  // neighbours that a thread takes at a time

/// The factor of each element's update: that of its row and its column.
struct Factored {
  const float *rows, *columns;
  Divisor by_columns, by_rows;
  int64_t C, R;

  /// Those of [i, i + count).
  __device__ void at(int64_t i, int count, const float (&)[kRun], float (&factors)[kRun]) const {
    int64_t c = i;
    const int64_t row = by_columns.divide(c);
    int64_t r = row;
    const int64_t matrix = by_rows.divide(r);
    const float *of_row = rows + row, *of_columns = columns + matrix * C;
#pragma unroll
    for (int k = 0; k < kRun; ++k) {
      if (k >= count) break;
      factors[k] = *of_row * of_columns[c];
      if (++c < C) continue;
      c = 0;
      ++of_row;
      if (++r < R) continue;
      r = 0;
      of_columns += C;
    }
  }
};

/// From means of squares that are each element's own.
struct Own {
  const float* squares;
  __device__ void at(int64_t i, int count, const float (&)[kRun], float (&factors)[kRun]) const {
#pragma unroll
    for (int k = 0; k < kRun; ++k)
      if (k < count) factors[k] = inverse_root(squares[i + k]);
  }
};

/// The same, for the first time in a step: the means go on.
struct OwnFollowed {
  Following following;
  float fresh;
  float* squares;
  __device__ void at(int64_t i, int count, const float (&gradient)[kRun], float (&factors)[kRun]) const {
#pragma unroll
    for (int k = 0; k < kRun; ++k) {
      if (k >= count) break;
      const float g = gradient[k] * following.scale;
      const float square = squares[i + k] * following.keep + (g * g + following.eps) * fresh;
      squares[i + k] = square;
      factors[k] = inverse_root(square);
    }
  }
};

/// Four numbers from x, or those that there are before n; and how many.
__device__ inline int take(const float* x, int64_t i, int64_t n, bool wide, float (&values)[kRun]) {
  if (wide && i + kRun <= n) {
    const auto run = load_run<float, kRun>(x + i);
#pragma unroll
    for (int k = 0; k < kRun; ++k) values[k] = run.values[k];
    return kRun;
  }
  int count = 0;
#pragma unroll
  for (int k = 0; k < kRun; ++k)
    if (i + k < n) values[k] = x[i + k], count = k + 1;
  return count;
}

template <class S>
__device__ void put(const float (&values)[kRun], int64_t i, int count, bool wide, S* y) {
  if (wide && count == kRun) {
    Run<float, kRun> run;
#pragma unroll
    for (int k = 0; k < kRun; ++k) run.values[k] = values[k];
    return store_rounded(run, y, i);
  }
#pragma unroll
  for (int k = 0; k < kRun; ++k)
    if (k < count) store_rounded(Run<float, 1>{values[k]}, y, i + k);
}

/// The most blocks that sum squares: what each sums depends on the number of elements alone.
constexpr int64_t kParts = 1024;

struct Parts {
  int64_t count;
  double *updates, *weights;  ///< sums of squares; those of the weights only where they are asked for
};

template <class Factor>
__global__ void sum_updates(const float* gradient, float scale, Factor factor, const float* w, int64_t n,
                            bool wide, Parts parts) {
  double update_sum = 0, weight_sum = 0;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads * kRun;
  for (int64_t i = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kRun; i < n; i += step) {
    float g[kRun]{}, factors[kRun]{}, weights[kRun]{};
    const int count = take(gradient, i, n, wide, g);
    factor.at(i, count, g, factors);
    if (w) take(w, i, n, wide, weights);
#pragma unroll
    for (int k = 0; k < kRun; ++k) {
      if (k >= count) break;
      const auto update = static_cast<double>(factors[k] * (g[k] * scale));
      update_sum += update * update;
      if (w) weight_sum += static_cast<double>(weights[k]) * static_cast<double>(weights[k]);
    }
  }
  update_sum = block_reduce<Plus>(update_sum, 0.0);
  if (threadIdx.x == 0) parts.updates[blockIdx.x] = update_sum;
  if (!w) return;
  weight_sum = block_reduce<Plus>(weight_sum, 0.0);
  if (threadIdx.x == 0) parts.weights[blockIdx.x] = weight_sum;
}

struct Move {
  double learning_rate, least_scale, clip_threshold, weight_decay;
  float beta1, fresh;
};

/// What all updates are multiplied by, and what is kept of the weights; the same in every thread.
__device__ float2 scales(const Move& move, const Parts& parts, int64_t n) {
  double updates = 0, weights = 0;
  for (int64_t k = threadIdx.x; k < parts.count; k += kThreads) {
    updates += parts.updates[k];
    if (parts.weights) weights += parts.weights[k];
  }
  updates = block_reduce<Plus>(updates, 0.0);
  double rate = move.learning_rate;
  if (parts.weights) {
    const double rms = sqrt(block_reduce<Plus>(weights, 0.0) / static_cast<double>(n));
    rate *= move.least_scale < rms ? rms : move.least_scale;
  }
  const double excess = sqrt(updates / static_cast<double>(n)) / move.clip_threshold;
  return make_float2(static_cast<float>(rate / (1.0 < excess ? excess : 1.0)),
                     static_cast<float>(1 - rate * move.weight_decay));
}

/// S is the type of `stored`, or void; m may be null.
template <class S, class Factor>
__global__ void apply(const float* gradient, float scale, Factor factor, Move move, Parts parts, float* w,
                      float* m, S* stored, int64_t n, bool wide) {
  const float2 s = scales(move, parts, n);
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads * kRun;
  for (int64_t i = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kRun; i < n; i += step) {
    float g[kRun]{}, factors[kRun]{}, weights[kRun]{}, means[kRun]{};
    const int count = take(gradient, i, n, wide, g);
    take(w, i, n, wide, weights);
    if (m) take(m, i, n, wide, means);
    factor.at(i, count, g, factors);
#pragma unroll
    for (int k = 0; k < kRun; ++k) {
      if (k >= count) break;
      float update = factors[k] * (g[k] * scale) * s.x;
      if (m) update = means[k] = means[k] * move.beta1 + update * move.fresh;
      weights[k] = weights[k] * s.y - update;
    }
    put(weights, i, count, wide, w);
    if (m) put(means, i, count, wide, m);
    put(weights, i, count, wide, stored);
  }
}

/// `first` is `factor`, where it has nothing to do first.
template <class First, class Factor>
void update(const First& first, const Factor& factor, const float* g, float scale, const Move& move,
            Tensor& w, Tensor& m, Tensor& stored) {
  const int64_t n = w.numel();
  float *weights = w.data<float>(), *mean = m ? m.data<float>() : nullptr;
  const bool wide = aligned({g, weights, mean, stored.raw()}, 16);
  Parts parts{std::min(kParts, ceil_div(n, kThreads * kRun)), nullptr, nullptr};
  const bool by_weights = move.least_scale > 0;
  Tensor sums = scratch(static_cast<size_t>(parts.count) * 2 * sizeof(double));
  parts.updates = static_cast<double*>(sums.raw());
  if (by_weights) parts.weights = parts.updates + parts.count;
  const dim3 grid(static_cast<unsigned>(parts.count));
  launch(sum_updates<First>, grid, dim3(kThreads), 0, g, scale, first, by_weights ? weights : nullptr, n,
         wide, parts);
  for_stored(stored, [&](auto* rounded) {
    using S = std::remove_pointer_t<decltype(rounded)>;
    launch(apply<S, Factor>, grid, dim3(kThreads), 0, g, scale, factor, move, parts, weights, mean, rounded,
           n, wide);
  });
}

}  // namespace
}  // namespace cuda

void CudaKernels::adafactor(const OptimizerStep& step, const AdafactorConstants& constants,
                            const Tensor& gradient, Tensor& w, Tensor& rows, Tensor& columns, Tensor& m,
                            Tensor& stored) {
  using namespace cuda;
  const int64_t n = w.numel();
  if (n == 0) return;
  packed_weights::forget(w);
  packed_weights::forget(stored);
  const float* g = gradient.data<float>();
  const double beta2 = 1 - std::pow(static_cast<double>(step.number), constants.decay_rate);
  const Move move{step.learning_rate,
                  constants.least_scale,
                  constants.clip_threshold,
                  step.weight_decay,
                  static_cast<float>(constants.beta1),
                  static_cast<float>(1 - constants.beta1)};
  Following following{static_cast<float>(step.gradient_scale), static_cast<float>(constants.eps),
                      static_cast<float>(beta2), 0, 0};
  if (!columns) {
    const OwnFollowed first{following, static_cast<float>(1 - beta2), rows.data<float>()};
    return update(first, Own{rows.data<float>()}, g, following.scale, move, w, m, stored);
  }
  const int64_t R = rows.dim(-1), C = columns.dim(-1);
  const Matrices matrices{n / (R * C), R, C};
  following.fresh_row = static_cast<float>((1 - beta2) / static_cast<double>(C));
  following.fresh_column = static_cast<float>((1 - beta2) / static_cast<double>(R));
  Tensor made = scratch(static_cast<size_t>(rows.numel() + columns.numel()) * sizeof(float));
  auto* row_factors = static_cast<float*>(made.raw());
  float* column_factors = row_factors + rows.numel();
  follow(g, following, matrices, {rows.data<float>(), columns.data<float>(), row_factors, column_factors});
  const Factored factor{row_factors, column_factors, Divisor(C), Divisor(R), C, R};
  update(factor, factor, g, following.scale, move, w, m, stored);
}

}  // namespace sinopia
