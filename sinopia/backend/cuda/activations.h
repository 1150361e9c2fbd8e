#pragma once

#include <cmath>
#include <type_traits>

#include <cuda_runtime.h>

#include "sinopia/backend/kernels.h"

namespace sinopia::cuda {

// Functions of one f32. All give NaN for NaN, and the infinities that cpu/math-inl.h gives. `T` is what the
// result is rounded to: with float every step is accurate to the last bits; the halves, whose rounding hides
// the difference, take the hardware's quick exponential and quotient.

/// What a leaky ReLU leaves of negative numbers.
inline constexpr float kLeak = 0.2f;

template <class T = float>
__device__ inline float exponential(float x) {
  if constexpr (std::is_same_v<T, float>) {
    return expf(x);
  } else {
    return __expf(x);
  }
}

/// For 1 <= b <= 2.
template <class T = float>
__device__ inline float quotient(float a, float b) {
  if constexpr (std::is_same_v<T, float>) {
    return a / b;
  } else {
    return __fdividef(a, b);
  }
}

/// 1 / (1 + e^-x), also where it nears 0.
template <class T = float>
__device__ inline float sigmoid(float x) {
  const float e = exponential<T>(-fabsf(x));
  return quotient<T>(x < 0.0f ? e : 1.0f, 1.0f + e);
}
template <class T = float>
__device__ inline float silu(float x) {
  return x * sigmoid<T>(x);
}
/// x times the normal distribution's integral up to x.
template <class T = float>
__device__ inline float gelu(float x) {
  return (x * 0.5f) * (1.0f + erff(x * 0.70710678f));
}
/// (1 + tanh u) / 2 = sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3)
template <class T = float>
__device__ inline float gelu_tanh(float x) {
  return x * sigmoid<T>((x * 1.59576912f) * fmaf(x * x, 0.044715f, 1.0f));
}
template <class T = float>
__device__ inline float quick_gelu(float x) {
  return x * sigmoid<T>(x * 1.702f);
}
__device__ inline float relu(float x) { return x < 0.0f ? 0.0f : x; }
__device__ inline float leaky_relu(float x) { return x > 0.0f ? x : x * kLeak; }

/// One activation, chosen when compiling.
template <Activation kActivation, class T = float>
__device__ inline float activate(float x) {
  if constexpr (kActivation == Activation::Silu) {
    return silu<T>(x);
  } else if constexpr (kActivation == Activation::Gelu) {
    return gelu<T>(x);
  } else if constexpr (kActivation == Activation::GeluTanh) {
    return gelu_tanh<T>(x);
  } else if constexpr (kActivation == Activation::QuickGelu) {
    return quick_gelu<T>(x);
  } else if constexpr (kActivation == Activation::Relu) {
    return relu(x);
  } else if constexpr (kActivation == Activation::Tanh) {
    return tanhf(x);
  } else if constexpr (kActivation == Activation::Sigmoid) {
    return sigmoid<T>(x);
  } else {
    return x;
  }
}

/// The same, chosen by all threads alike for each number: for the end of a longer computation.
template <class T = float>
__device__ inline float activate(Activation activation, float x) {
  switch (activation) {
    case Activation::None:
      return x;
    case Activation::Silu:
      return silu<T>(x);
    case Activation::Gelu:
      return gelu<T>(x);
    case Activation::GeluTanh:
      return gelu_tanh<T>(x);
    case Activation::QuickGelu:
      return quick_gelu<T>(x);
    case Activation::Relu:
      return relu(x);
    case Activation::Tanh:
      return tanhf(x);
    case Activation::Sigmoid:
      return sigmoid<T>(x);
  }
  return x;
}

}  // namespace sinopia::cuda
