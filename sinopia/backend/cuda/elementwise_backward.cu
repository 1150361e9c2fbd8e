#include <algorithm>

#include "sinopia/backend/cuda/activations.h"
#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/backend/cuda/divisor.h"
#include "sinopia/backend/cuda/map.h"
#include "sinopia/backend/cuda/reductions.h"

namespace sinopia {
namespace cuda {
namespace {

/// The derivative of f = x sigmoid(a(x)): s + x a' s (1 - s)
template <class T>
__device__ float gated_slope(float x, float a, float slope) {
  const float s = sigmoid<T>(a);
  return fmaf(x * slope * s, 1.0f - s, s);
}

template <class T>
__device__ float gelu_slope(float x) {
  const float normal = 0.5f * (1.0f + erff(x * 0.70710678f));
  const float density = 0.39894228f * exponential<T>(x * x * -0.5f);
  return fmaf(x, density, normal);
}

/// f'(x) of an activation or another function.
template <UnaryOp kOp, class T>
__device__ float slope(float x) {
  if constexpr (kOp == UnaryOp::Silu) {
    return gated_slope<T>(x, x, 1.0f);
  } else if constexpr (kOp == UnaryOp::Gelu) {
    return gelu_slope<T>(x);
  } else if constexpr (kOp == UnaryOp::GeluTanh) {
    const float square = x * x, scale = 1.59576912f;
    const float inner = fmaf(square, 0.044715f, 1.0f), outer = fmaf(square, 3 * 0.044715f, 1.0f);
    return gated_slope<T>(x, x * scale * inner, scale * outer);
  } else if constexpr (kOp == UnaryOp::QuickGelu) {
    return gated_slope<T>(x, x * 1.702f, 1.702f);
  } else if constexpr (kOp == UnaryOp::Relu) {
    return x > 0.0f ? 1.0f : 0.0f;
  } else if constexpr (kOp == UnaryOp::LeakyRelu) {
    return x > 0.0f ? 1.0f : kLeak;
  } else if constexpr (kOp == UnaryOp::Tanh) {
    const float t = tanhf(x);
    return fmaf(-t, t, 1.0f);
  } else if constexpr (kOp == UnaryOp::Sigmoid) {
    const float s = sigmoid<T>(x);
    return s * (1.0f - s);
  } else if constexpr (kOp == UnaryOp::Exp) {
    return expf(x);
  } else if constexpr (kOp == UnaryOp::Log) {
    return 1.0f / x;
  } else if constexpr (kOp == UnaryOp::Sqrt) {
    return 0.5f / sqrtf(x);
  } else if constexpr (kOp == UnaryOp::Abs) {
    return x == 0.0f ? 0.0f : copysignf(1.0f, x);
  } else {
    static_assert(kOp == UnaryOp::Square);
    return x + x;
  }
}

template <UnaryOp kOp, class T>
struct ChainFunction {
  __device__ float operator()(float x, float dy) const { return dy * slope<kOp, T>(x); }
};

struct InsideFunction {
  float low, high;
  __device__ float operator()(float x, float dy) const { return x >= low && x <= high ? dy : 0.0f; }
};

template <class T, class F>
void map_floats(const F& f, const Tensor& x, const Tensor& dy, Tensor& dx) {
  map(InFloat<T, F>{f}, Inputs<T, 2>{{static_cast<const T*>(x.raw()), static_cast<const T*>(dy.raw())}},
      static_cast<T*>(dx.raw()), dx.numel());
}

/// Of rows x [2D] = (a, g) with y = a gelu(g): dx = (dy gelu(g), dy a gelu'(g)), in runs of kCount.
template <class T, int kCount>
__global__ void geglu_backward_kernel(const T* x, const T* dy, T* dx, Divisor row_runs, int64_t D,
                                      int64_t runs) {
  const int64_t run = static_cast<int64_t>(blockIdx.x) * kMapThreads + threadIdx.x;
  if (run >= runs) return;
  const int64_t at = run * kCount + row_runs.quotient(run) * D;
  const auto a = load_run<T, kCount>(x + at), g = load_run<T, kCount>(x + at + D);
  const auto d = load_run<T, kCount>(dy + run * kCount);
  Run<T, kCount> of_a, of_g;
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    const float gate = widen(g.values[k]), v = widen(d.values[k]);
    of_a.values[k] = narrow_to<T>(v * gelu<T>(gate));
    of_g.values[k] = narrow_to<T>(v * widen(a.values[k]) * gelu_slope<T>(gate));
  }
  store_run(dx + at, of_a);
  store_run(dx + at + D, of_g);
}

constexpr int kRowThreads = 256;

/// dx = y (dy - sum(y dy)) for each row: one of a warp each, or one of the whole block.
template <class T, int kCount, bool kOfBlock>
__global__ void softmax_backward_kernel(const T* y, const T* dy, T* dx, int64_t rows, int64_t D) {
  constexpr int kThreads = kOfBlock ? kRowThreads : 32;
  const int64_t row =
      static_cast<int64_t>(blockIdx.x) * (kRowThreads / kThreads) + static_cast<int>(threadIdx.x) / kThreads;
  if (row >= rows) return;
  const int64_t first = static_cast<int64_t>(threadIdx.x % kThreads) * kCount, end = (row + 1) * D;
  float sum = 0;
  for (int64_t i = row * D + first; i < end; i += kThreads * kCount) {
    const auto a = load_run<T, kCount>(y + i), b = load_run<T, kCount>(dy + i);
#pragma unroll
    for (int k = 0; k < kCount; ++k) sum = fmaf(widen(a.values[k]), widen(b.values[k]), sum);
  }
  if constexpr (kOfBlock) {
    sum = block_reduce<Plus>(sum, 0.0f);
  } else {
    sum = warp_reduce<Plus>(sum);
  }
  for (int64_t i = row * D + first; i < end; i += kThreads * kCount) {
    const auto a = load_run<T, kCount>(y + i), b = load_run<T, kCount>(dy + i);
    Run<T, kCount> out;
#pragma unroll
    for (int k = 0; k < kCount; ++k)
      out.values[k] = narrow_to<T>(widen(a.values[k]) * (widen(b.values[k]) - sum));
    store_run(dx + i, out);
  }
}

// sum_middle: the rows of x [A,R,B] are cut into chunks, whose sums are added by a second launch. How they
// are cut depends on the shape alone, so that the result does, too.

constexpr int kSumThreads = 256, kSumLanes = 32, kSumRows = kSumThreads / kSumLanes;
constexpr int64_t kFewColumns = 128;  ///< up to which the threads of a block lie along rows and columns alike
constexpr int64_t kBlocksWanted = 1056, kLeastRows = 32;

/// Sum over rows [first, last) of a block's columns, 4 rows under way at once. `S` is what sums are held in.
template <class S, int kCount, class From>
__device__ void sum_rows_of(const From* x, int64_t first, int64_t last, int64_t row_step, int64_t step,
                            S (&sums)[kCount]) {
  constexpr int kAtOnce = 4;
  S of_row[kAtOnce][kCount] = {};
  for (int64_t r = first; r < last; r += kAtOnce * row_step) {
    Run<From, kCount> in[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i)
      if (r + i * row_step < last) in[i] = load_run<From, kCount>(x + (r + i * row_step) * step);
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (r + i * row_step >= last) break;
#pragma unroll
      for (int k = 0; k < kCount; ++k) of_row[i][k] += static_cast<S>(widen(in[i].values[k]));
    }
  }
#pragma unroll
  for (int k = 0; k < kCount; ++k) sums[k] = (of_row[0][k] + of_row[1][k]) + (of_row[2][k] + of_row[3][k]);
}

/// Blocks (A tiles, chunks): y[a, chunk, b] = the sum over the chunk's rows of x[a, :, b], for kSumLanes runs
/// of kCount columns.
template <class S, int kCount, class From, class To>
__global__ void sum_columns_kernel(const From* x, To* y, int64_t R, int64_t B, Divisor tiles,
                                   int64_t chunk_rows) {
  __shared__ S of_rows[kSumRows][kSumLanes * kCount];
  const int lane = static_cast<int>(threadIdx.x) % kSumLanes, row = static_cast<int>(threadIdx.x) / kSumLanes;
  int64_t tile = blockIdx.x;
  const int64_t a = tiles.divide(tile);
  const int64_t b = (tile * kSumLanes + lane) * kCount;
  const int64_t first = blockIdx.y * chunk_rows, last = std::min(R, first + chunk_rows);
  S sums[kCount] = {};
  if (b < B) sum_rows_of<S, kCount>(x + a * R * B + b, first + row, last, kSumRows, B, sums);
#pragma unroll
  for (int k = 0; k < kCount; ++k) of_rows[row][lane * kCount + k] = sums[k];
  __syncthreads();
  const int64_t y_row = (a * gridDim.y + blockIdx.y) * B;
  for (int i = static_cast<int>(threadIdx.x); i < kSumLanes * kCount; i += kSumThreads) {
    const int64_t column = tile * kSumLanes * kCount + i;
    if (column >= B) break;
    S sum = 0;
#pragma unroll
    for (int r = 0; r < kSumRows; ++r) sum += of_rows[r][i];
    y[y_row + column] = narrow_to<To>(static_cast<float>(sum));
  }
}

/// The same for B <= kFewColumns, blocks (A, chunks): the block's threads lie along as many whole rows as
/// they can.
template <class S, class From, class To>
__global__ void sum_few_columns_kernel(const From* x, To* y, int64_t R, int64_t B, int64_t chunk_rows) {
  __shared__ S of_threads[kSumThreads];
  const int columns = static_cast<int>(B), rows = kSumThreads / columns,
            thread = static_cast<int>(threadIdx.x);
  const int64_t a = blockIdx.x;
  const int64_t first = blockIdx.y * chunk_rows, last = std::min(R, first + chunk_rows);
  S sum[1] = {};
  if (thread < rows * columns)
    sum_rows_of<S, 1>(x + a * R * B + thread % columns, first + thread / columns, last, rows, B, sum);
  of_threads[thread] = sum[0];
  __syncthreads();
  // Halves of the rows are added to each other; the odd one out waits for the next round.
  for (int left = rows; left > 1;) {
    const int kept = (left + 1) / 2;
    if (thread < (left - kept) * columns) of_threads[thread] += of_threads[thread + kept * columns];
    left = kept;
    __syncthreads();
  }
  if (thread < columns)
    y[(a * gridDim.y + blockIdx.y) * B + thread] = narrow_to<To>(static_cast<float>(of_threads[thread]));
}

template <class S, class From, class To>
void sum_chunks(const From* x, To* y, int64_t A, int64_t R, int64_t B, int64_t chunk_rows) {
  const auto chunks = static_cast<unsigned>(std::max<int64_t>(1, ceil_div(R, chunk_rows)));
  if (B <= kFewColumns) {
    launch(sum_few_columns_kernel<S, From, To>, dim3(static_cast<unsigned>(A), chunks), kSumThreads, 0, x, y,
           R, B, chunk_rows);
    return;
  }
  const auto run = [&]<int kCount>(std::integral_constant<int, kCount>) {
    const int64_t tiles = ceil_div(B, kSumLanes * kCount);
    launch(sum_columns_kernel<S, kCount, From, To>, dim3(static_cast<unsigned>(A * tiles), chunks),
           kSumThreads, 0, x, y, R, B, Divisor(tiles), chunk_rows);
  };
  if (B % 4 == 0 && aligned({x}, 4 * sizeof(From))) {
    run(std::integral_constant<int, 4>());
  } else {
    run(std::integral_constant<int, 1>());
  }
}

}  // namespace
}  // namespace cuda

using namespace cuda;

void CudaKernels::unary_backward(UnaryOp op, const Tensor& x, const Tensor& dy, Tensor& dx) {
  for_float(x.dtype(), [&](auto type) {
    using T = decltype(type);
    const auto run = [&]<UnaryOp kOp>(std::integral_constant<UnaryOp, kOp>) {
      map_floats<T>(ChainFunction<kOp, T>(), x, dy, dx);
    };
    switch (op) {
      case UnaryOp::Silu:
        return run(std::integral_constant<UnaryOp, UnaryOp::Silu>());
      case UnaryOp::Gelu:
        return run(std::integral_constant<UnaryOp, UnaryOp::Gelu>());
      case UnaryOp::GeluTanh:
        return run(std::integral_constant<UnaryOp, UnaryOp::GeluTanh>());
      case UnaryOp::QuickGelu:
        return run(std::integral_constant<UnaryOp, UnaryOp::QuickGelu>());
      case UnaryOp::Relu:
        return run(std::integral_constant<UnaryOp, UnaryOp::Relu>());
      case UnaryOp::LeakyRelu:
        return run(std::integral_constant<UnaryOp, UnaryOp::LeakyRelu>());
      case UnaryOp::Tanh:
        return run(std::integral_constant<UnaryOp, UnaryOp::Tanh>());
      case UnaryOp::Sigmoid:
        return run(std::integral_constant<UnaryOp, UnaryOp::Sigmoid>());
      case UnaryOp::Exp:
        return run(std::integral_constant<UnaryOp, UnaryOp::Exp>());
      case UnaryOp::Log:
        return run(std::integral_constant<UnaryOp, UnaryOp::Log>());
      case UnaryOp::Sqrt:
        return run(std::integral_constant<UnaryOp, UnaryOp::Sqrt>());
      case UnaryOp::Abs:
        return run(std::integral_constant<UnaryOp, UnaryOp::Abs>());
      case UnaryOp::Square:
        return run(std::integral_constant<UnaryOp, UnaryOp::Square>());
    }
  });
}

void CudaKernels::clamp_backward(const Tensor& x, float low, float high, const Tensor& dy, Tensor& dx) {
  for_float(x.dtype(), [&](auto type) { map_floats<decltype(type)>(InsideFunction{low, high}, x, dy, dx); });
}

void CudaKernels::geglu_backward(const Tensor& x, const Tensor& dy, Tensor& dx) {
  if (dy.numel() == 0) return;
  const int64_t D = dy.dim(-1);
  for_float(x.dtype(), [&](auto type) {
    using T = decltype(type);
    const auto run = [&]<int kCount>(std::integral_constant<int, kCount>) {
      const int64_t runs = dy.numel() / kCount;
      launch(geglu_backward_kernel<T, kCount>, static_cast<unsigned>(ceil_div(runs, kMapThreads)),
             kMapThreads, 0, x.raw(), dy.raw(), dx.raw(), Divisor(D / kCount), D, runs);
    };
    constexpr int kWide = run_length(sizeof(T));
    if (D % kWide == 0 && aligned({x.raw(), dy.raw(), dx.raw()}, 16)) {
      run(std::integral_constant<int, kWide>());
    } else {
      run(std::integral_constant<int, 1>());
    }
  });
}

void CudaKernels::softmax_backward(const Tensor& y, const Tensor& dy, Tensor& dx) {
  if (y.numel() == 0) return;
  const int64_t D = y.dim(-1), rows = y.numel() / D;
  for_float(y.dtype(), [&](auto type) {
    using T = decltype(type);
    const auto run = [&]<int kCount>(std::integral_constant<int, kCount>) {
      const bool of_block = D > 1024;
      launch(of_block ? softmax_backward_kernel<T, kCount, true> : softmax_backward_kernel<T, kCount, false>,
             static_cast<unsigned>(of_block ? rows : ceil_div(rows, kRowThreads / 32)), kRowThreads, 0,
             y.raw(), dy.raw(), dx.raw(), rows, D);
    };
    constexpr int kWide = run_length(sizeof(T));
    if (D % kWide == 0 && aligned({y.raw(), dy.raw(), dx.raw()}, 16)) {
      run(std::integral_constant<int, kWide>());
    } else {
      run(std::integral_constant<int, 1>());
    }
  });
}

void CudaKernels::sum_middle(const Tensor& x, Tensor& y) {
  const int64_t A = x.dim(0), R = x.dim(1), B = x.dim(2);
  if (y.numel() == 0) return;
  const int64_t tiles = B <= kFewColumns ? 1 : ceil_div(B, kSumLanes * 4);
  const int64_t chunks_wanted = std::max<int64_t>(1, kBlocksWanted / (A * tiles));
  const int64_t least = B <= kFewColumns ? kLeastRows * kFewColumns / B : kLeastRows;
  const int64_t chunk_rows = std::max(least, ceil_div(R, chunks_wanted)), chunks = ceil_div(R, chunk_rows);
  for_float(x.dtype(), [&](auto type) {
    using T = decltype(type);
    const auto* from = static_cast<const T*>(x.raw());
    auto* to = static_cast<T*>(y.raw());
    if (chunks <= 1) return sum_chunks<float>(from, to, A, R, B, chunk_rows);
    Tensor partial = scratch(static_cast<size_t>(A * chunks * B) * sizeof(float));
    auto* sums = static_cast<float*>(partial.raw());
    sum_chunks<float>(from, sums, A, R, B, chunk_rows);
    sum_chunks<double>(static_cast<const float*>(sums), to, A, chunks, B, chunks);
  });
}

}  // namespace sinopia
