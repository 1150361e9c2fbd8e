#pragma once

#include <cstdint>

#include <cuda_runtime.h>

namespace sinopia::cuda {

using SharedAddress = uintptr_t;

inline SharedAddress shared_address(const void* in_shared_memory) {
  return reinterpret_cast<SharedAddress>(in_shared_memory);
}

}  // namespace sinopia::cuda
