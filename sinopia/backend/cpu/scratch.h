#pragma once

#include <cstddef>

#include <hwy/aligned_allocator.h>

namespace sinopia {

/// At least `count` uninitialised floats, aligned for vectors, that stay this thread's own and valid until
/// its next call. They are kept for the thread's lifetime, so ask for blocks, not for tensors.
inline float* thread_scratch(size_t count) {
  thread_local hwy::AlignedFreeUniquePtr<float[]> block;
  thread_local size_t size = 0;
  if (size < count) {
    block = hwy::AllocateAligned<float>(count);
    size = count;
  }
  return block.get();
}

}  // namespace sinopia
