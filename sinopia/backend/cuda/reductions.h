#pragma once

#include <cuda_runtime.h>

namespace sinopia::cuda {

struct Plus {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Larger {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a > b || a != a ? a : b;  // a NaN stays
  }
};

/// The same value in every lane, combined in an order that depends on nothing.
template <class Combine, class T>
__device__ T warp_reduce(T value, Combine combine = {}) {
#pragma unroll
  for (int bits = 16; bits > 0; bits /= 2) value = combine(value, __shfl_xor_sync(0xffffffffu, value, bits));
  return value;
}

/// The same value in every thread of a block of whole warps, up to 1024 threads; `neutral` changes nothing.
template <class Combine, class T>
__device__ T block_reduce(T value, T neutral, Combine combine = {}) {
  __shared__ T of_warps[32];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  value = warp_reduce<Combine>(value, combine);
  __syncthreads();  // of_warps may still be read from a call before
  if (lane == 0) of_warps[warp] = value;
  __syncthreads();
  value = lane < warps ? of_warps[lane] : neutral;
  return warp_reduce<Combine>(value, combine);
}

}  // namespace sinopia::cuda
