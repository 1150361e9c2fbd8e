#pragma once

#include <cuda_runtime.h>

#include "sinopia/backend/cuda/shared_address.h"

// Copies from the device's memory into shared memory that go on while the thread computes (compute capability
// 8.0 on). A thread sees what it copied itself after wait_for_copies; the others see it after a barrier that
// follows.

namespace sinopia::cuda {

/// 16 bytes, both addresses multiples of 16; zeros if not `present`, and then nothing is read.
__device__ inline void copy_async(SharedAddress to, const void* from, bool present = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(to), "l"(__cvta_generic_to_global(from)), "r"(present ? 16 : 0)
               : "memory");
}

/// What this thread asked for since the last call becomes one group.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Until at most the `kPending` last groups of this thread are still on their way.
template <int kPending>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace sinopia::cuda
