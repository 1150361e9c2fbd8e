#pragma once

// The part of CUDA's cuda_fp16.h that sinopia/backend/cuda uses.

#include <cuda_runtime.h>

#include "sinopia/base/half.h"

struct alignas(2) __half {
  unsigned short bits = 0;
};
struct alignas(4) __half2 {
  __half x, y;
};
using half = __half;
using half2 = __half2;

inline float __half2float(__half x) { return sinopia::to_float(sinopia::Half{x.bits}); }
inline __half __float2half_rn(float x) { return {sinopia::to_half(x).bits}; }
inline __half __float2half(float x) { return __float2half_rn(x); }
inline __half2 __floats2half2_rn(float x, float y) { return {__float2half_rn(x), __float2half_rn(y)}; }
inline float2 __half22float2(__half2 x) { return {__half2float(x.x), __half2float(x.y)}; }
inline __half __ushort_as_half(unsigned short x) { return {x}; }
inline unsigned short __half_as_ushort(__half x) { return x.bits; }
