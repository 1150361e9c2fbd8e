#pragma once

#include <cstdio>
#include <cstdlib>
#include <vector>

#include <cuda_runtime.h>

#include "sinopia/backend/cuda/shared_address.h"

// The copies are done when they are waited for and no sooner, so that a missing wait shows.

namespace sinopia::cuda {

namespace emulated {

struct Copy {
  SharedAddress to;
  const void* from;  // null: zeros
};
struct Copies {
  uint64_t block = 0;
  std::vector<Copy> open;
  std::vector<std::vector<Copy>> groups;
};

/// Of the thread that runs now, without what a block before left.
inline Copies& copies() {
  static std::vector<Copies> all(1024);
  Copies& mine = all[threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)];
  if (mine.block != sinopia_emulation::blocks_run())
    mine = {.block = sinopia_emulation::blocks_run(), .open = {}, .groups = {}};
  return mine;
}

}  // namespace emulated

inline void copy_async(SharedAddress to, const void* from, bool present = true) {
  if (to % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0 ||
      (present && !sinopia_emulation::is_device_memory(from, 16))) {
    std::fprintf(stderr,
                 "CUDA emulation: copy_async from outside, or not to and from multiples of 16 bytes\n");
    std::abort();
  }
  emulated::copies().open.push_back({to, present ? from : nullptr});
}

inline void commit_copies() {
  emulated::Copies& mine = emulated::copies();
  mine.groups.push_back(std::move(mine.open));
  mine.open.clear();
}

template <int kPending>
void wait_for_copies() {
  auto& groups = emulated::copies().groups;
  while (groups.size() > kPending) {
    for (const emulated::Copy& copy : groups.front()) {
      void* const to = reinterpret_cast<void*>(copy.to);
      if (copy.from) {
        std::memcpy(to, copy.from, 16);
      } else {
        std::memset(to, 0, 16);
      }
    }
    groups.erase(groups.begin());
  }
}

}  // namespace sinopia::cuda
