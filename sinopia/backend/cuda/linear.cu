#include <algorithm>

#include "sinopia/backend/cuda/activations.h"
#include "sinopia/backend/cuda/cublaslt.h"
#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/backend/cuda/dequantise.h"
#include "sinopia/backend/cuda/elements.h"
#include "sinopia/backend/cuda/runtime.h"
#include "sinopia/base/error.h"

namespace sinopia {
namespace cuda {
namespace {

// Results of up to so many halves are summed into f32 scratch (32 MiB, which a GPU's cache holds) where
// something follows that the library does not do itself, so that they are rounded once. Larger ones are
// rounded before and after: the activation's derivative, at most 1.2, bounds what the first rounding adds.
constexpr int64_t kMostWide = int64_t{8} << 20;

constexpr int kThreads = 256;

// What follows a product: y [rows,columns] = activation(product + bias [columns] + add).
struct Ending {
  const void* product = nullptr;  // of f32, or of y's dtype; absent: 0
  const void* bias = nullptr;
  DType bias_dtype = DType::F32;
  const void* add = nullptr;  // of y's dtype
  Activation activation = Activation::None;
  void* y = nullptr;
  int64_t rows = 0, columns = 0;
};

__device__ float element_of(const void* data, DType dtype, int64_t place) {
  if (dtype == DType::F16) return widen(static_cast<const __half*>(data)[place]);
  if (dtype == DType::BF16) return widen(static_cast<const __nv_bfloat16*>(data)[place]);
  return static_cast<const float*>(data)[place];
}

// A thread has kCount neighbouring columns, with their biases, and takes every so many rows of them.
template <class T, class From, int kCount>
__global__ void __launch_bounds__(kThreads) end_product(Ending e) {
  const int64_t column = (int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * kCount;
  if (column >= e.columns) return;
  float bias[kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i) bias[i] = e.bias ? element_of(e.bias, e.bias_dtype, column + i) : 0.0f;
  const int64_t step = int64_t{gridDim.x} * blockDim.y;
  for (int64_t row = int64_t{blockIdx.x} * blockDim.y + threadIdx.y; row < e.rows; row += step) {
    const int64_t place = row * e.columns + column;
    float sums[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i) sums[i] = bias[i];
    if (e.product) {
      const auto run =
          *reinterpret_cast<const Run<From, kCount>*>(static_cast<const From*>(e.product) + place);
#pragma unroll
      for (int i = 0; i < kCount; ++i) sums[i] = widen(run.values[i]) + sums[i];
    }
    if (e.add) {
      const auto run = *reinterpret_cast<const Run<T, kCount>*>(static_cast<const T*>(e.add) + place);
#pragma unroll
      for (int i = 0; i < kCount; ++i) sums[i] += widen(run.values[i]);
    }
    Run<T, kCount> result;
#pragma unroll
    for (int i = 0; i < kCount; ++i) result.values[i] = narrow_to<T>(activate<T>(e.activation, sums[i]));
    *reinterpret_cast<Run<T, kCount>*>(static_cast<T*>(e.y) + place) = result;
  }
}

template <class T, class From, int kCount>
void launch_ending(const Ending& e) {
  const int64_t runs = e.columns / kCount;
  unsigned width = 1;
  while (width < 128 && width < runs) width *= 2;
  const unsigned height = kThreads / width;
  const int64_t across = ceil_div(runs, width), down = ceil_div(e.rows, height);
  const int64_t most = std::max<int64_t>(ceil_div(int64_t{16} * limits().multiprocessors, across), 1);
  launch(end_product<T, From, kCount>,
         dim3(static_cast<unsigned>(std::min(down, most)), static_cast<unsigned>(across)),
         dim3(width, height), 0, e);
}

template <class T, class From>
void choose_width(const Ending& e) {
  constexpr int kCount = 16 / sizeof(T);
  const auto aligned = [](const void* data, size_t bytes) {
    return reinterpret_cast<uintptr_t>(data) % bytes == 0;
  };
  const bool in_runs = e.columns % kCount == 0 && aligned(e.product, sizeof(From) * kCount) &&
                       aligned(e.add, 16) && aligned(e.y, 16);
  in_runs ? launch_ending<T, From, kCount>(e) : launch_ending<T, From, 1>(e);
}

void end_of_product(const Ending& e, DType dtype, DType product_dtype) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    product_dtype == DType::F32 ? choose_width<T, float>(e) : choose_width<T, T>(e);
  });
}

// The bias as the library takes it: of y's dtype, and in multiples of 16 bytes, which its algorithms expect
// without saying so.
Tensor library_bias(CudaKernels& kernels, const Tensor& bias, DType dtype) {
  if (!bias || (bias.dtype() == dtype && reinterpret_cast<uintptr_t>(bias.raw()) % 16 == 0)) return bias;
  Tensor result = Tensor::empty(bias.shape(), dtype, bias.device());
  kernels.convert(bias, result);
  return result;
}

Tensor weights_as(CudaKernels& kernels, const Tensor& w, DType dtype) {
  if (w.dtype() == dtype) return w;
  Tensor result = Tensor::empty(w.shape(), dtype, w.device());
  is_quantised(w.dtype()) ? dequantise(w, result) : kernels.convert(w, result);
  return result;
}

}  // namespace
}  // namespace cuda

// Weights and biases of another dtype than x are converted first, to x's: exact for f32 activations; for
// halves each is rounded once, which changes y by at most epsilon times (|bias| + the sum of |x| |w|).
void CudaKernels::linear(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& add,
                         Activation activation, Tensor& y) {
  using namespace cuda;
  if (y.numel() == 0) return;
  const DType dtype = y.dtype();
  Ending ending;
  ending.columns = w.dim(0);
  ending.rows = y.numel() / ending.columns;
  ending.bias = bias.raw();
  ending.bias_dtype = bias.dtype();
  ending.add = add.raw();
  ending.activation = activation;
  ending.y = y.raw();
  if (w.dim(1) == 0) return end_of_product(ending, dtype, dtype);

  const Tensor weights = weights_as(*this, w, dtype);
  Product p;
  p.m = ending.rows;
  p.n = ending.columns;
  p.k = w.dim(1);
  p.dtype = p.y_dtype = dtype;
  p.a = x.raw();
  p.b = weights.raw();
  p.b_is_nk = true;
  p.y = y.raw();

  const bool wide = dtype == DType::F32 || y.numel() <= kMostWide;
  const bool by_library = activation == Activation::None || (activation == Activation::GeluTanh && !wide);
  if (by_library || !wide) {
    const Tensor fitting = library_bias(*this, bias, dtype);
    Product fused = p;
    fused.bias = fitting.raw();
    fused.add = add.raw();
    fused.gelu_tanh = by_library && activation == Activation::GeluTanh;
    if (multiply(fused)) {
      if (by_library) return;
      ending.product = y.raw();
      ending.bias = ending.add = nullptr;
      return end_of_product(ending, dtype, dtype);
    }
  }
  Tensor product = y;
  if (wide && dtype != DType::F32) product = Tensor::empty(y.shape(), DType::F32, y.device());
  p.y = product.raw();
  p.y_dtype = product.dtype();
  SINOPIA_CHECK(multiply(p), Backend, "[cuda] cuBLASLt cannot multiply {} and {}", describe(x), describe(w));
  ending.product = product.raw();
  end_of_product(ending, dtype, product.dtype());
}

}  // namespace sinopia
