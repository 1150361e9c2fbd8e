#pragma once

#include <cstdint>

#include <cuda_runtime.h>

namespace sinopia::cuda {

/// Where something lies in shared memory, in bytes: what the instructions of mma.h and async_copy.h take.
/// Sums with constants cost nothing.
using SharedAddress = uint32_t;

__device__ inline SharedAddress shared_address(const void* in_shared_memory) {
  return static_cast<SharedAddress>(__cvta_generic_to_shared(in_shared_memory));
}

}  // namespace sinopia::cuda
