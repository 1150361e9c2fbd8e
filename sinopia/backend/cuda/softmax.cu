#include "sinopia/backend/cuda/activations.h"
#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/backend/cuda/parameters.h"
#include "sinopia/backend/cuda/reductions.h"
#include "sinopia/backend/cuda/warp_row.h"

namespace sinopia {
namespace cuda {
namespace {

// A row of NaN or infinity, or of nothing but minus infinity, becomes NaN, as on the CPU.

template <class T, int kCount, int kRuns>
__global__ void softmax_short_rows(const T* x, int64_t rows, int D, T* y) {
  const int64_t row = warp_row();
  if (row >= rows) return;
  WarpRow<T, kCount, kRuns> values;
  values.load(x + row * D, D, -INFINITY);
  float largest = -INFINITY;
#pragma unroll
  for (int r = 0; r < kRuns; ++r)
#pragma unroll
    for (int k = 0; k < kCount; ++k) largest = Larger{}(largest, values.values[r][k]);
  largest = warp_reduce<Larger>(largest);
  float sum = 0;
#pragma unroll
  for (int r = 0; r < kRuns; ++r) {
    float part = 0;
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      values.values[r][k] = exponential<T>(values.values[r][k] - largest);
      part += values.values[r][k];
    }
    sum += part;
  }
  const float factor = 1.0f / warp_reduce<Plus>(sum);
#pragma unroll
  for (int r = 0; r < kRuns; ++r)
#pragma unroll
    for (int k = 0; k < kCount; ++k) values.values[r][k] *= factor;
  values.store(y + row * D, D);
}

/// A row of any length for each block, read three times.
template <class T, int kCount>
__global__ void softmax_long_rows(const T* x, int64_t D, T* y) {
  x += blockIdx.x * D;
  y += blockIdx.x * D;
  const auto for_runs = [&](const auto& body) {
    for (int64_t i = int64_t{threadIdx.x} * kCount; i < D; i += int64_t{blockDim.x} * kCount) {
      float values[kCount];
      widen_run<kCount>(x + i, values);
      body(i, values);
    }
  };
  float largest = -INFINITY;
  for_runs([&](int64_t, const float* values) {
#pragma unroll
    for (int k = 0; k < kCount; ++k) largest = Larger{}(largest, values[k]);
  });
  largest = block_reduce<Larger>(largest, -INFINITY);
  double sum = 0;
  for_runs([&](int64_t, const float* values) {
    float part = 0;
#pragma unroll
    for (int k = 0; k < kCount; ++k) part += exponential<T>(values[k] - largest);
    sum += static_cast<double>(part);
  });
  const auto factor = static_cast<float>(1.0 / block_reduce<Plus>(sum, 0.0));
  for_runs([&](int64_t i, const float* values) {
    Run<T, kCount> run;
#pragma unroll
    for (int k = 0; k < kCount; ++k)
      run.values[k] = narrow_to<T>(exponential<T>(values[k] - largest) * factor);
    store_run(y + i, run);
  });
}

}  // namespace
}  // namespace cuda

void CudaKernels::softmax(const Tensor& x, Tensor& y) {
  if (x.numel() == 0) return;
  using namespace cuda;
  const int64_t D = x.dim(-1), rows = x.numel() / D;
  for_float(x.dtype(), [&](auto t) {
    using T = decltype(t);
    constexpr int kCount = run_length(sizeof(T));
    const auto* const from = static_cast<const T*>(x.raw());
    auto* const to = static_cast<T*>(y.raw());
    const bool wide = D % kCount == 0 && aligned({from, to}, 16);
    const int warps = warp_row_threads(rows) / 32;
    const auto blocks = static_cast<unsigned>(ceil_div(rows, warps));
    const auto as_short = [&](auto runs) {
      launch(softmax_short_rows<T, kCount, decltype(runs)::value>, blocks, warps * 32, 0, from, rows, D, to);
    };
    if (wide && for_warp_row<T>(D, as_short)) return;
    if (!wide && D <= 256) {  // such as the keys of a text
      launch(softmax_short_rows<T, 1, 8>, blocks, warps * 32, 0, from, rows, D, to);
      return;
    }
    const int threads = static_cast<int>(std::clamp<int64_t>(ceil_div(D, 4 * 32) * 32, 32, 512));
    if (wide) {
      launch(softmax_long_rows<T, kCount>, static_cast<unsigned>(rows), threads, 0, from, D, to);
    } else {
      launch(softmax_long_rows<T, 1>, static_cast<unsigned>(rows), threads, 0, from, D, to);
    }
  });
}

}  // namespace sinopia
