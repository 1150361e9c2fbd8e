#pragma once

#include <map>
#include <mutex>

#include "sinopia/tensor/allocator.h"

namespace sinopia {

/// Host memory. Blocks from 1 MiB on come straight from mmap on a 2 MiB boundary, so that the kernel can back
/// them with huge pages; a freed block serves a later request of at least 3/4 of its size. Cached blocks
/// never hold more than a quarter of the peak in use, so that freeing a large model frees the process's
/// memory too.
class CpuAllocator final : public Allocator {
 public:
  ~CpuAllocator() override;
  void* allocate(size_t bytes) override;
  void release(void* data, size_t bytes) noexcept override;
  MemoryStats stats() const override;
  void reset_peak() override;
  void release_cached() override;
  void set_limit(size_t bytes) override;

 private:
  void trim(size_t keep) noexcept;

  mutable std::mutex mutex_;
  std::multimap<size_t, void*> cache_;      // capacity -> block
  std::map<void*, size_t> large_capacity_;  // of the large blocks in use
  MemoryStats stats_;
  size_t limit_ = 0;
};

CpuAllocator& cpu_allocator();

}  // namespace sinopia
