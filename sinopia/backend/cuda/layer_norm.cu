#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/backend/cuda/parameters.h"
#include "sinopia/backend/cuda/reductions.h"
#include "sinopia/backend/cuda/warp_row.h"

namespace sinopia {
namespace cuda {
namespace {

/// A row becomes (x - mean - rest) * factor * w + b, the mean in two parts: beside a large mean the result is
/// as good as x.
struct RowScale {
  float mean = 0, rest = 0, factor = 0;

  template <int kCount>
  __device__ void apply(float* values, const Parameters& w, const Parameters& b, int64_t at) const {
    float weight[kCount], bias[kCount];
    load_parameters<kCount>(w, at, 1, weight);
    load_parameters<kCount>(b, at, 0, bias);
#pragma unroll
    for (int k = 0; k < kCount; ++k) values[k] = fmaf((values[k] - mean - rest) * factor, weight[k], bias[k]);
  }
};

template <class T, int kCount, int kRuns, bool kCentered>
__global__ void norm_short_rows(const T* x, int64_t rows, int D, Parameters w, Parameters b, float eps,
                                T* y) {
  const int64_t row = warp_row();
  if (row >= rows) return;
  WarpRow<T, kCount, kRuns> values;
  values.load(x + row * D, D, 0);
  const auto count = static_cast<float>(D);
  RowScale scale;
  if constexpr (kCentered) {
    float sum = 0;
#pragma unroll
    for (int r = 0; r < kRuns; ++r) {
      float part = 0;
#pragma unroll
      for (int k = 0; k < kCount; ++k) part += values.values[r][k];
      sum += part;
    }
    scale.mean = warp_reduce<Plus>(sum) / count;
  }
  float away = 0, square = 0;
#pragma unroll
  for (int r = 0; r < kRuns; ++r) {
    if (values.place(r) >= D) continue;
    float away_part = 0, square_part = 0;
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      const float v = values.values[r][k] - scale.mean;
      away_part += v;
      square_part = fmaf(v, v, square_part);
    }
    away += away_part;
    square += square_part;
  }
  float variance = warp_reduce<Plus>(square) / count;
  if constexpr (kCentered) {
    scale.rest = warp_reduce<Plus>(away) / count;
    variance -= scale.rest * scale.rest;
    if (variance < 0) variance = 0;
  }
  scale.factor = 1.0f / sqrtf(variance + eps);
#pragma unroll
  for (int r = 0; r < kRuns; ++r)
    if (values.place(r) < D) scale.template apply<kCount>(values.values[r], w, b, values.place(r));
  values.store(y + row * D, D);
}

/// A row of any length for each block, read three times.
template <class T, int kCount, bool kCentered>
__global__ void norm_long_rows(const T* x, int64_t D, Parameters w, Parameters b, float eps, T* y) {
  x += blockIdx.x * D;
  y += blockIdx.x * D;
  const auto for_runs = [&](const auto& body) {
    for (int64_t i = int64_t{threadIdx.x} * kCount; i < D; i += int64_t{blockDim.x} * kCount) {
      float values[kCount];
      widen_run<kCount>(x + i, values);
      body(i, values);
    }
  };
  const auto count = static_cast<double>(D);
  RowScale scale;
  if constexpr (kCentered) {
    double sum = 0;
    for_runs([&](int64_t, const float* values) {
      float part = 0;
#pragma unroll
      for (int k = 0; k < kCount; ++k) part += values[k];
      sum += static_cast<double>(part);
    });
    scale.mean = static_cast<float>(block_reduce<Plus>(sum, 0.0) / count);
  }
  double away = 0, square = 0;
  for_runs([&](int64_t, const float* values) {
    float away_part = 0, square_part = 0;
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      const float v = values[k] - scale.mean;
      away_part += v;
      square_part = fmaf(v, v, square_part);
    }
    away += static_cast<double>(away_part);
    square += static_cast<double>(square_part);
  });
  double variance = block_reduce<Plus>(square, 0.0) / count;
  if constexpr (kCentered) {
    const double rest = block_reduce<Plus>(away, 0.0) / count;
    scale.rest = static_cast<float>(rest);
    variance -= rest * rest;
    if (variance < 0) variance = 0;
  }
  scale.factor = static_cast<float>(1.0 / sqrt(variance + static_cast<double>(eps)));
  for_runs([&](int64_t i, float* values) {
    scale.template apply<kCount>(values, w, b, i);
    Run<T, kCount> run;
#pragma unroll
    for (int k = 0; k < kCount; ++k) run.values[k] = narrow_to<T>(values[k]);
    store_run(y + i, run);
  });
}

template <bool kCentered>
void norm_rows(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps, Tensor& y) {
  if (x.numel() == 0) return;
  const int64_t D = x.dim(-1), rows = x.numel() / D;
  const Parameters w(weight), b(bias);
  for_float(x.dtype(), [&](auto t) {
    using T = decltype(t);
    constexpr int kCount = run_length(sizeof(T));
    const auto* const from = static_cast<const T*>(x.raw());
    auto* const to = static_cast<T*>(y.raw());
    const auto one_each = static_cast<unsigned>(rows);
    const bool wide = D % kCount == 0 && aligned({from, to}, 16) && aligned_parameters<kCount>(w) &&
                      aligned_parameters<kCount>(b);
    const auto as_short = [&](auto runs) {
      const int threads = warp_row_threads(rows);
      launch(norm_short_rows<T, kCount, decltype(runs)::value, kCentered>,
             static_cast<unsigned>(ceil_div(rows, threads / 32)), threads, 0, from, rows, D, w, b, eps, to);
    };
    if (wide && for_warp_row<T>(D, as_short)) return;
    const int threads = static_cast<int>(std::clamp<int64_t>(ceil_div(D, 4 * 32) * 32, 32, 512));
    if (wide) {
      launch(norm_long_rows<T, kCount, kCentered>, one_each, threads, 0, from, D, w, b, eps, to);
    } else {
      launch(norm_long_rows<T, 1, kCentered>, one_each, threads, 0, from, D, w, b, eps, to);
    }
  });
}

}  // namespace
}  // namespace cuda

void CudaKernels::layer_norm(const Tensor& x, const Tensor& w, const Tensor& b, float eps, Tensor& y) {
  cuda::norm_rows<true>(x, w, b, eps, y);
}

void CudaKernels::rms_norm(const Tensor& x, const Tensor& w, float eps, Tensor& y) {
  cuda::norm_rows<false>(x, w, {}, eps, y);
}

}  // namespace sinopia
