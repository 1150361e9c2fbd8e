#include <cstring>
#include <limits>
#include <type_traits>

#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/backend/cuda/dequantise.h"
#include "sinopia/backend/cuda/map.h"
#include "sinopia/backend/cuda/packed_weights.h"

namespace sinopia {
namespace cuda {
namespace {

template <class T>
constexpr bool kIsHalf = std::is_same_v<T, __half> || std::is_same_v<T, __nv_bfloat16>;

/// f(T{}) with the type that `dtype` is in a kernel.
template <class F>
void for_element(DType dtype, const F& f) {
  switch (dtype) {
    case DType::F64:
      return f(double{});
    case DType::I8:
      return f(int8_t{});
    case DType::U8:
      return f(uint8_t{});
    case DType::I16:
      return f(int16_t{});
    case DType::I32:
      return f(int32_t{});
    case DType::I64:
      return f(int64_t{});
    case DType::Bool:
      return f(bool{});
    default:
      return for_float(dtype, f);
  }
}

/// As cpu/cast.h: numbers outside an integer's range become its nearest end, NaN becomes 0.
template <class From, class To>
struct Cast {
  __device__ To operator()(From x) const {
    if constexpr (kIsHalf<From>) {
      return Cast<float, To>()(widen(x));
    } else if constexpr (kIsHalf<To>) {
      return narrow_to<To>(static_cast<float>(x));
    } else if constexpr (std::is_same_v<To, bool>) {
      return x != From(0);
    } else if constexpr (std::is_integral_v<To> && std::is_floating_point_v<From>) {
      using Limits = std::numeric_limits<To>;
      constexpr To kLowest = Limits::min(), kHighest = Limits::max();
      // The first number too large, 2^digits.
      constexpr From kEnd = From(2) * static_cast<From>(uint64_t{1} << (Limits::digits - 1));
      if (x != x) return To(0);
      return x < static_cast<From>(kLowest) ? kLowest : x >= kEnd ? kHighest : static_cast<To>(x);
    } else {
      return static_cast<To>(x);
    }
  }
};

template <class From, class To>
void convert_elements(const Tensor& x, Tensor& y) {
  const auto* from = static_cast<const From*>(x.raw());
  auto* to = static_cast<To*>(y.raw());
  using F = Cast<From, To>;
  constexpr bool kBothFloats =
      (kIsHalf<From> || std::is_same_v<From, float>)&&(kIsHalf<To> || std::is_same_v<To, float>);
  if constexpr (kBothFloats || std::is_same_v<From, uint8_t>) {
    map(F(), Inputs<From, 1>{{from}}, to, x.numel());
  } else {  // rare
    launch(map_kernel<1, 1, F, From, To>, map_grid(x.numel()), kMapThreads, 0, F(), Inputs<From, 1>{{from}},
           to, x.numel());
  }
}

/// By way of the host, whose search for the scales this rare conversion shares.
void quantise_on_host(const Tensor& x, Tensor& y) {
  Tensor from = Tensor::empty(x.shape(), x.dtype()), to = Tensor::empty(y.shape(), y.dtype());
  to_host(from.raw(), x.raw(), x.bytes());
  cpu_kernels().convert(from, to);
  to_device(y.raw(), to.raw(), y.bytes());
}

}  // namespace
}  // namespace cuda

using namespace cuda;

void CudaKernels::convert(const Tensor& x, Tensor& y) {
  if (x.numel() == 0) return;
  packed_weights::forget(y);  // which may be a parameter
  if (x.dtype() == y.dtype()) {
    check(cudaMemcpyAsync(y.raw(), x.raw(), x.bytes(), cudaMemcpyDeviceToDevice, stream()), "copy");
    return;
  }
  if (is_quantised(y.dtype())) return quantise_on_host(x, y);
  if (is_quantised(x.dtype())) {
    if (y.dtype() == DType::F32 || y.dtype() == DType::F16 || y.dtype() == DType::BF16)
      return dequantise(x, y);
    Tensor wide = Tensor::empty(x.shape(), DType::F32, x.device());
    dequantise(x, wide);
    return convert(wide, y);
  }
  for_element(x.dtype(), [&](auto from) {
    for_element(y.dtype(), [&](auto to) { convert_elements<decltype(from), decltype(to)>(x, y); });
  });
}

}  // namespace sinopia
