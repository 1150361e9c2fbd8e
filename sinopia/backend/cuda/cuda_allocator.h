#pragma once

#include <map>
#include <mutex>
#include <vector>

#include "sinopia/tensor/allocator.h"

namespace sinopia::cuda {

/// Memory of one GPU. Freed blocks serve again at once: all work is on one stream, so that what still uses a
/// block is done before what uses it next.
class CudaAllocator final : public Allocator {
 public:
  explicit CudaAllocator(int device) : device_(device) {}
  void* allocate(size_t bytes) override;
  void release(void* data, size_t bytes) noexcept override;
  MemoryStats stats() const override;
  void reset_peak() override;
  void release_cached() override;
  void set_limit(size_t bytes) override;
  void copy(void* to, const void* from, size_t bytes) override;

 private:
  int device_;
  mutable std::mutex mutex_;
  std::map<size_t, std::vector<void*>> free_;
  MemoryStats stats_;
  size_t limit_ = 0;
};

}  // namespace sinopia::cuda
