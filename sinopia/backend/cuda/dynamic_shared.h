#pragma once

#include <cuda_runtime.h>

namespace sinopia::cuda {

/// The shared memory that a block was started with, from a multiple of 16 bytes on.
template <class T>
__device__ T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char sinopia_dynamic_shared[];
  return reinterpret_cast<T*>(sinopia_dynamic_shared);
}

}  // namespace sinopia::cuda
