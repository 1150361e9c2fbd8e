#include "sinopia/backend/cuda/cuda_allocator.h"

#include <algorithm>

#include "sinopia/backend/cuda/runtime.h"
#include "sinopia/base/error.h"

namespace sinopia::cuda {
namespace {

size_t rounded(size_t bytes) { return (std::max<size_t>(bytes, 1) + 511) / 512 * 512; }

}  // namespace

void* CudaAllocator::allocate(size_t bytes) {
  const std::lock_guard lock(mutex_);
  const size_t size = rounded(bytes);
  SINOPIA_CHECK(limit_ == 0 || stats_.in_use + size <= limit_, OutOfMemory,
                "[cuda] no {} bytes below the limit", size);
  ++stats_.requests;
  void* data = nullptr;
  std::vector<void*>& cached = free_[size];
  if (!cached.empty()) {
    data = cached.back();
    cached.pop_back();
    stats_.cached -= size;
  } else {
    ++stats_.misses;
    use_device(device_);
    check(cudaMalloc(&data, size), "get memory");
  }
  stats_.in_use += size;
  stats_.peak = std::max(stats_.peak, stats_.in_use);
  return data;
}

void CudaAllocator::release(void* data, size_t bytes) noexcept {
  const std::lock_guard lock(mutex_);
  const size_t size = rounded(bytes);
  free_[size].push_back(data);
  stats_.in_use -= size;
  stats_.cached += size;
}

MemoryStats CudaAllocator::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

void CudaAllocator::reset_peak() {
  const std::lock_guard lock(mutex_);
  stats_.peak = stats_.in_use;
}

void CudaAllocator::release_cached() {
  const std::lock_guard lock(mutex_);
  for (auto& [size, blocks] : free_)
    for (void* block : blocks) cudaFree(block);
  free_.clear();
  stats_.cached = 0;
}

void CudaAllocator::set_limit(size_t bytes) {
  const std::lock_guard lock(mutex_);
  limit_ = bytes;
}

void CudaAllocator::copy(void* to, const void* from, size_t bytes) {
  use_device(device_);
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream()), "copy");
  check(cudaStreamSynchronize(stream()), "copy");
}

}  // namespace sinopia::cuda
