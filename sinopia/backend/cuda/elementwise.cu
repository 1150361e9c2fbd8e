#include "sinopia/backend/cuda/activations.h"
#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/backend/cuda/divisor.h"
#include "sinopia/backend/cuda/map.h"
#include "sinopia/backend/cuda/packed_weights.h"

namespace sinopia {
namespace cuda {
namespace {

template <UnaryOp kOp, class T>
struct UnaryFunction {
  __device__ float operator()(float x) const {
    if constexpr (kOp == UnaryOp::Silu) {
      return silu<T>(x);
    } else if constexpr (kOp == UnaryOp::Gelu) {
      return gelu<T>(x);
    } else if constexpr (kOp == UnaryOp::GeluTanh) {
      return gelu_tanh<T>(x);
    } else if constexpr (kOp == UnaryOp::QuickGelu) {
      return quick_gelu<T>(x);
    } else if constexpr (kOp == UnaryOp::Relu) {
      return relu(x);
    } else if constexpr (kOp == UnaryOp::LeakyRelu) {
      return leaky_relu(x);
    } else if constexpr (kOp == UnaryOp::Tanh) {
      return tanhf(x);
    } else if constexpr (kOp == UnaryOp::Sigmoid) {
      return sigmoid<T>(x);
    } else if constexpr (kOp == UnaryOp::Exp) {
      return expf(x);
    } else if constexpr (kOp == UnaryOp::Log) {
      return logf(x);
    } else if constexpr (kOp == UnaryOp::Sqrt) {
      return sqrtf(x);
    } else if constexpr (kOp == UnaryOp::Abs) {
      return fabsf(x);
    } else {
      static_assert(kOp == UnaryOp::Square);
      return x * x;
    }
  }
};

struct AffineFunction {
  float scale, shift;
  __device__ float operator()(float x) const { return __fadd_rn(__fmul_rn(x, scale), shift); }
};

struct ClampFunction {
  float low, high;
  __device__ float operator()(float x) const {
    const float raised = x < low ? low : x;  // a NaN passes both
    return raised > high ? high : raised;
  }
};

template <class T, class F>
void map_floats(const F& f, const Tensor& x, Tensor& y) {
  map(InFloat<T, F>{f}, Inputs<T, 1>{{static_cast<const T*>(x.raw())}}, static_cast<T*>(y.raw()), y.numel());
}

/// Row r of y is x[r, 0:D] gelu(x[r, D:2D]), in runs of kCount, of which a row has whole ones.
template <class T, int kCount>
__global__ void geglu_kernel(const T* x, T* y, Divisor row_runs, int64_t D, int64_t runs) {
  const int64_t first = map_first();
  Run<T, kCount> values[kMapRuns], gates[kMapRuns];
#pragma unroll
  for (int r = 0; r < kMapRuns; ++r) {
    const int64_t run = first + r * kMapThreads;
    if (run >= runs) break;
    const T* from = x + run * kCount + row_runs.quotient(run) * D;
    values[r] = load_run<T, kCount>(from);
    gates[r] = load_run<T, kCount>(from + D);
  }
#pragma unroll
  for (int r = 0; r < kMapRuns; ++r) {
    const int64_t run = first + r * kMapThreads;
    if (run >= runs) break;
    Run<T, kCount> out;
#pragma unroll
    for (int k = 0; k < kCount; ++k)
      out.values[k] = narrow_to<T>(widen(values[r].values[k]) * gelu<T>(widen(gates[r].values[k])));
    store_run(y + run * kCount, out);
  }
}

}  // namespace
}  // namespace cuda

using namespace cuda;

void CudaKernels::unary(UnaryOp op, const Tensor& x, Tensor& y) {
  for_float(x.dtype(), [&](auto type) {
    using T = decltype(type);
    switch (op) {
      case UnaryOp::Silu:
        return map_floats<T>(UnaryFunction<UnaryOp::Silu, T>(), x, y);
      case UnaryOp::Gelu:
        return map_floats<T>(UnaryFunction<UnaryOp::Gelu, T>(), x, y);
      case UnaryOp::GeluTanh:
        return map_floats<T>(UnaryFunction<UnaryOp::GeluTanh, T>(), x, y);
      case UnaryOp::QuickGelu:
        return map_floats<T>(UnaryFunction<UnaryOp::QuickGelu, T>(), x, y);
      case UnaryOp::Relu:
        return map_floats<T>(UnaryFunction<UnaryOp::Relu, T>(), x, y);
      case UnaryOp::LeakyRelu:
        return map_floats<T>(UnaryFunction<UnaryOp::LeakyRelu, T>(), x, y);
      case UnaryOp::Tanh:
        return map_floats<T>(UnaryFunction<UnaryOp::Tanh, T>(), x, y);
      case UnaryOp::Sigmoid:
        return map_floats<T>(UnaryFunction<UnaryOp::Sigmoid, T>(), x, y);
      case UnaryOp::Exp:
        return map_floats<T>(UnaryFunction<UnaryOp::Exp, T>(), x, y);
      case UnaryOp::Log:
        return map_floats<T>(UnaryFunction<UnaryOp::Log, T>(), x, y);
      case UnaryOp::Sqrt:
        return map_floats<T>(UnaryFunction<UnaryOp::Sqrt, T>(), x, y);
      case UnaryOp::Abs:
        return map_floats<T>(UnaryFunction<UnaryOp::Abs, T>(), x, y);
      case UnaryOp::Square:
        return map_floats<T>(UnaryFunction<UnaryOp::Square, T>(), x, y);
    }
  });
}

void CudaKernels::affine(const Tensor& x, float scale, float shift, Tensor& y) {
  if (x.raw() == y.raw()) packed_weights::forget(y);
  for_float(x.dtype(), [&](auto type) { map_floats<decltype(type)>(AffineFunction{scale, shift}, x, y); });
}

void CudaKernels::clamp(const Tensor& x, float low, float high, Tensor& y) {
  for_float(x.dtype(), [&](auto type) { map_floats<decltype(type)>(ClampFunction{low, high}, x, y); });
}

void CudaKernels::geglu(const Tensor& x, Tensor& y) {
  if (y.numel() == 0) return;
  for_float(x.dtype(), [&](auto type) {
    using T = decltype(type);
    const auto run = [&]<int kCount>(std::integral_constant<int, kCount>) {
      const int64_t D = y.dim(-1), runs = y.numel() / kCount;
      launch(geglu_kernel<T, kCount>, map_grid(runs), kMapThreads, 0, x.raw(), y.raw(), Divisor(D / kCount),
             D, runs);
    };
    constexpr int kWide = run_length(sizeof(T));
    if (y.dim(-1) % kWide == 0 && aligned({x.raw(), y.raw()}, 16)) {
      run(std::integral_constant<int, kWide>());
    } else {
      run(std::integral_constant<int, 1>());
    }
  });
}

}  // namespace sinopia
