#pragma once

#include <map>
#include <mutex>
#include <vector>

#include "sinopia/tensor/allocator.h"
#include "sinopia/tensor/cpu_arena.h"

namespace sinopia {

/// Host memory. Blocks from 1 MiB on come from one arena, smaller ones of the same size serve again. What is
/// free stays with the process until release_cached() is called or the system has no more, so that a step
/// that has run once runs again without asking the system for anything.
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
  void* allocate_small(size_t capacity);
  void* allocate_large(size_t bytes);
  void drop_cached() noexcept;

  mutable std::mutex mutex_;
  CpuArena arena_;
  std::map<size_t, std::vector<void*>> small_;  // free blocks by capacity
  size_t small_cached_ = 0;
  MemoryStats stats_;
  size_t limit_ = 0;
};

CpuAllocator& cpu_allocator();

}  // namespace sinopia
