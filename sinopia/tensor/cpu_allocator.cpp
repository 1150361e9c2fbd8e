#include "sinopia/tensor/cpu_allocator.h"

#include <algorithm>
#include <cstdlib>

#include <sys/mman.h>

#include "sinopia/base/error.h"

namespace sinopia {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kLargeBlock = size_t{1} << 20;

size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

size_t capacity_for(size_t bytes) {
  if (bytes >= kLargeBlock) return round_up(bytes, kHugePage / 8);
  return std::max(round_up(bytes, kAlignment), kAlignment);
}

// nullptr when the system has no memory left.
void* system_allocate(size_t capacity) {
  if (capacity < kLargeBlock) return std::aligned_alloc(kAlignment, capacity);
  // Map one huge page more than needed and give both ends back, to start on a huge page's boundary.
  const size_t mapped = capacity + kHugePage;
  void* raw = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  char* begin = static_cast<char*>(raw);
  char* aligned = begin + (kHugePage - reinterpret_cast<uintptr_t>(begin) % kHugePage) % kHugePage;
  if (aligned > begin) munmap(begin, static_cast<size_t>(aligned - begin));
  char* end = begin + mapped;
  if (aligned + capacity < end) munmap(aligned + capacity, static_cast<size_t>(end - (aligned + capacity)));
  madvise(aligned, capacity, MADV_HUGEPAGE);
  return aligned;
}

void system_release(void* data, size_t capacity) {
  if (capacity < kLargeBlock) {
    std::free(data);
  } else {
    munmap(data, capacity);
  }
}

}  // namespace

CpuAllocator& cpu_allocator() {
  static CpuAllocator* instance = new CpuAllocator;  // outlives every static tensor
  return *instance;
}

CpuAllocator::~CpuAllocator() { trim(0); }

void* CpuAllocator::allocate(size_t bytes) {
  SINOPIA_CHECK(bytes <= (size_t{1} << 62), OutOfMemory, "[memory] cannot allocate {} bytes", bytes);
  const size_t wanted = capacity_for(bytes);
  std::lock_guard lock(mutex_);
  ++stats_.requests;
  SINOPIA_CHECK(limit_ == 0 || stats_.in_use + bytes <= limit_, OutOfMemory,
                "[memory] {} MiB more would pass the limit of {} MiB ({} MiB in use)", bytes >> 20,
                limit_ >> 20, stats_.in_use >> 20);
  void* block = nullptr;
  size_t capacity = wanted;
  // Small blocks are rounded the same way on release, so only their exact capacity fits.
  if (auto it = cache_.lower_bound(wanted);
      it != cache_.end() &&
      (it->first == wanted || (wanted >= kLargeBlock && it->first - wanted <= it->first / 4))) {
    capacity = it->first;
    block = it->second;
    stats_.cached -= capacity;
    cache_.erase(it);
  } else {
    ++stats_.misses;
    block = system_allocate(wanted);
    if (!block) {
      trim(0);
      block = system_allocate(wanted);
    }
    SINOPIA_CHECK(block, OutOfMemory, "[memory] the system has no {} MiB left ({} MiB in use)",
                  (bytes >> 20) + 1, stats_.in_use >> 20);
  }
  if (capacity >= kLargeBlock) large_capacity_.emplace(block, capacity);
  stats_.in_use += bytes;
  stats_.peak = std::max(stats_.peak, stats_.in_use);
  return block;
}

void CpuAllocator::release(void* data, size_t bytes) noexcept {
  if (!data) return;
  std::lock_guard lock(mutex_);
  size_t capacity = capacity_for(bytes);
  if (auto it = large_capacity_.find(data); it != large_capacity_.end()) {
    capacity = it->second;
    large_capacity_.erase(it);
  }
  stats_.in_use -= bytes;
  cache_.emplace(capacity, data);
  stats_.cached += capacity;
  trim(std::max(stats_.peak / 4, size_t{64} << 20));
}

void CpuAllocator::trim(size_t keep) noexcept {
  while (stats_.cached > keep && !cache_.empty()) {
    const auto largest = std::prev(cache_.end());
    system_release(largest->second, largest->first);
    stats_.cached -= largest->first;
    cache_.erase(largest);
  }
}

MemoryStats CpuAllocator::stats() const {
  std::lock_guard lock(mutex_);
  return stats_;
}

void CpuAllocator::reset_peak() {
  std::lock_guard lock(mutex_);
  stats_.peak = stats_.in_use;
}

void CpuAllocator::release_cached() {
  std::lock_guard lock(mutex_);
  trim(0);
}

void CpuAllocator::set_limit(size_t bytes) {
  std::lock_guard lock(mutex_);
  limit_ = bytes;
}

}  // namespace sinopia
