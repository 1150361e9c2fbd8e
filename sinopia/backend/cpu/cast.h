#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

#include "sinopia/base/half.h"
#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// One element in another type, as PyTorch converts it, except that numbers outside an integer's range become
/// its nearest end and NaN becomes 0, where PyTorch leaves it to the machine.
template <class To, class From>
To cast_element(From x) {
  if constexpr (std::is_same_v<To, From>) {
    return x;
  } else if constexpr (std::is_same_v<From, Half> || std::is_same_v<From, BFloat16>) {
    return cast_element<To>(to_float(x));
  } else if constexpr (std::is_same_v<To, Half>) {
    return to_half(static_cast<float>(x));
  } else if constexpr (std::is_same_v<To, BFloat16>) {
    return to_bfloat16(static_cast<float>(x));
  } else if constexpr (std::is_same_v<To, bool>) {
    return x != From(0);
  } else if constexpr (std::is_integral_v<To> && std::is_floating_point_v<From>) {
    using Limits = std::numeric_limits<To>;
    const From low = static_cast<From>(Limits::min());
    const From high = std::ldexp(From(1), Limits::digits);  // the first number too large
    if (std::isnan(x)) return To(0);
    return x < low ? Limits::min() : x >= high ? Limits::max() : static_cast<To>(x);
  } else {
    return static_cast<To>(x);
  }
}

/// Calls f(T{}) with the element type of `dtype`. Throws Unsupported for a quantised one.
template <class F>
void visit_dtype(DType dtype, const F& f) {
  switch (dtype) {
    case DType::F32:
      return f(float{});
    case DType::F16:
      return f(Half{});
    case DType::BF16:
      return f(BFloat16{});
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
      fail(ErrorKind::Unsupported, "[cpu] expected single elements, got {} blocks", to_string(dtype));
  }
}

/// Elements that one thread takes at a time in loops that the memory's speed limits, and in loops that
/// compute something like an exponential.
inline constexpr int64_t kMemoryGrain = 1 << 15;
inline constexpr int64_t kMathGrain = 1 << 13;

/// w in f32: w itself if it is that already, or absent.
Tensor widened(const Tensor& w);

}  // namespace sinopia
