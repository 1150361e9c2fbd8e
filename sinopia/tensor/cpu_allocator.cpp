#include "sinopia/tensor/cpu_allocator.h"

#include <algorithm>
#include <cstdlib>

#include "sinopia/base/error.h"

namespace sinopia {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kLargeBlock = size_t{1} << 20;

size_t small_capacity(size_t bytes) {
  return std::max((bytes + kAlignment - 1) / kAlignment * kAlignment, kAlignment);
}

}  // namespace

CpuAllocator& cpu_allocator() {
  static CpuAllocator* instance = new CpuAllocator;  // outlives every static tensor
  return *instance;
}

CpuAllocator::~CpuAllocator() { drop_cached(); }

void* CpuAllocator::allocate(size_t bytes) {
  SINOPIA_CHECK(bytes <= (size_t{1} << 62), OutOfMemory, "[memory] cannot allocate {} bytes", bytes);
  std::lock_guard lock(mutex_);
  ++stats_.requests;
  SINOPIA_CHECK(limit_ == 0 || stats_.in_use + bytes <= limit_, OutOfMemory,
                "[memory] {} MiB more would pass the limit of {} MiB ({} MiB in use)", bytes >> 20,
                limit_ >> 20, stats_.in_use >> 20);
  void* block = bytes < kLargeBlock ? allocate_small(small_capacity(bytes)) : allocate_large(bytes);
  SINOPIA_CHECK(block, OutOfMemory, "[memory] the system has no {} MiB left ({} MiB in use)",
                (bytes >> 20) + 1, stats_.in_use >> 20);
  stats_.in_use += bytes;
  stats_.peak = std::max(stats_.peak, stats_.in_use);
  return block;
}

void* CpuAllocator::allocate_small(size_t capacity) {
  if (const auto found = small_.find(capacity); found != small_.end() && !found->second.empty()) {
    void* block = found->second.back();
    found->second.pop_back();
    small_cached_ -= capacity;
    return block;
  }
  ++stats_.misses;
  void* block = std::aligned_alloc(kAlignment, capacity);
  if (block) return block;
  drop_cached();
  return std::aligned_alloc(kAlignment, capacity);
}

void* CpuAllocator::allocate_large(size_t bytes) {
  void* block = arena_.allocate(bytes);
  if (!block) {
    drop_cached();
    block = arena_.allocate(bytes);
  }
  if (!arena_.reused()) ++stats_.misses;
  return block;
}

void CpuAllocator::release(void* data, size_t bytes) noexcept {
  if (!data) return;
  std::lock_guard lock(mutex_);
  stats_.in_use -= bytes;
  if (bytes >= kLargeBlock) return arena_.release(data, bytes);
  const size_t capacity = small_capacity(bytes);
  small_[capacity].push_back(data);
  small_cached_ += capacity;
}

void CpuAllocator::drop_cached() noexcept {
  for (const auto& [capacity, blocks] : small_) std::for_each(blocks.begin(), blocks.end(), std::free);
  small_.clear();
  small_cached_ = 0;
  arena_.drop_free();
}

MemoryStats CpuAllocator::stats() const {
  std::lock_guard lock(mutex_);
  MemoryStats stats = stats_;
  stats.cached = small_cached_ + arena_.cached();
  return stats;
}

void CpuAllocator::reset_peak() {
  std::lock_guard lock(mutex_);
  stats_.peak = stats_.in_use;
}

void CpuAllocator::release_cached() {
  std::lock_guard lock(mutex_);
  drop_cached();
}

void CpuAllocator::set_limit(size_t bytes) {
  std::lock_guard lock(mutex_);
  limit_ = bytes;
}

}  // namespace sinopia
