#pragma once

#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "sinopia/base/error.h"
#include "sinopia/tensor/dtype.h"

namespace sinopia::cuda {

// What a dtype is inside a kernel: __half for F16, __nv_bfloat16 for BF16, float for F32.

__device__ inline float widen(float x) { return x; }
__device__ inline float widen(__half x) { return __half2float(x); }
__device__ inline float widen(__nv_bfloat16 x) { return __bfloat162float(x); }

/// Rounds to nearest, ties to even.
template <class T>
__device__ inline T narrow_to(float x);
template <>
__device__ inline float narrow_to<float>(float x) {
  return x;
}
template <>
__device__ inline __half narrow_to<__half>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ inline __nv_bfloat16 narrow_to<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

/// kCount neighbours, read and written at once; their address is a multiple of their size (up to 16 bytes).
template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Run {
  T values[kCount];
};

/// f(T{}) with the type that `dtype` is in a kernel.
template <class F>
void for_float(DType dtype, F&& f) {
  switch (dtype) {
    case DType::F32:
      return f(float{});
    case DType::F16:
      return f(__half{});
    case DType::BF16:
      return f(__nv_bfloat16{});
    default:
      fail(ErrorKind::InvalidArgument, "[cuda] expected f32, f16 or bf16, got {}", to_string(dtype));
  }
}

}  // namespace sinopia::cuda
