#include "sinopia/backend/cuda/cuda_allocator.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "sinopia/backend/cuda/reclaim.h"
#include "sinopia/backend/cuda/recording.h"
#include "sinopia/backend/cuda/runtime.h"
#include "sinopia/base/error.h"

namespace sinopia::cuda {
namespace {

constexpr size_t kMiB = size_t{1} << 20;
constexpr size_t kSegmentUnit = 2 * kMiB;
// Segments hold several blocks of usual sizes, so that a gap that one block leaves is of use to others.
constexpr size_t kLeastSegment = 32 * kMiB, kMostSegment = 256 * kMiB;
constexpr size_t kSmallSlot = size_t{64} << 10, kLargeSlot = 4 * kMiB;
constexpr size_t kSmallSlots = 32, kLargeSlots = 4;
constexpr int kMostRounds = 64;

thread_local CudaAllocator::PrivatePool* pool_of_thread = nullptr;

size_t mebibytes(size_t bytes) { return (bytes + kMiB - 1) >> 20; }

}  // namespace

CudaAllocator& cuda_allocator(int device) {
  return static_cast<CudaAllocator&>(allocator({DeviceType::Cuda, device}));
}

CudaAllocator::CudaAllocator(int device)
    : device_(device), small_staging_(kSmallSlot, kSmallSlots), large_staging_(kLargeSlot, kLargeSlots) {}

void* CudaAllocator::allocate(size_t bytes) {
  PrivatePool* const pool = pool_of_thread && &pool_of_thread->allocator_ == this ? pool_of_thread : nullptr;
  return allocate(bytes, pool ? pool->blocks_ : common_, pool);
}

void* CudaAllocator::allocate_lasting(size_t bytes) { return allocate(bytes, lasting_, nullptr); }

void* CudaAllocator::allocate(size_t bytes, BlockPool& blocks, PrivatePool* pool) {
  SINOPIA_CHECK(bytes <= (size_t{1} << 62), OutOfMemory, "[cuda] cannot allocate {} bytes", bytes);
  const DeviceScope device(device_);
  const size_t size = BlockPool::block_size(bytes);
  size_t over = 0, limit = 0;
  for (int round = 0;; ++round) {
    {
      const std::lock_guard lock(mutex_);
      if (round == 0) ++stats_.requests;
      limit = limit_;
      over = pool ? 0 : over_limit(bytes);  // a private pool counts its segments as they come
      if (Block* const block = over ? nullptr : find(size, blocks, pool != nullptr)) {
        block->asked = bytes;
        in_use_.emplace(block->data, block);
        if (!pool) {
          taken_ += block->size;
          stats_.in_use += bytes;
          stats_.peak = std::max(stats_.peak, stats_.in_use);
        }
        return block->data;
      }
    }
    // The room that was made may lie in pieces: each round asks for more.
    const size_t wanted = over ? over : size << std::min(round, 8);
    if (pool || round == kMostRounds || reclaim(wanted) == 0) break;
  }
  const MemoryStats now = stats();
  SINOPIA_CHECK(!over, OutOfMemory,
                "[cuda] {} MiB more would pass the limit of {} MiB on cuda:{} ({} MiB in use)",
                mebibytes(bytes), limit >> 20, device_, mebibytes(now.in_use));
  fail(ErrorKind::OutOfMemory, "[cuda] cuda:{} has no {} MiB left ({} MiB in use, {} MiB in free pieces)",
       device_, mebibytes(bytes), mebibytes(now.in_use), mebibytes(now.cached));
}

size_t CudaAllocator::over_limit(size_t more) const {
  if (limit_ == 0 || stats_.in_use + more <= limit_) return 0;
  return stats_.in_use + more - limit_;
}

Segment* CudaAllocator::idle_segment(size_t size) const {
  Segment* const a = common_.idle_segment(size);
  Segment* const b = lasting_.idle_segment(size);
  return !b || (a && a->size <= b->size) ? a : b;
}

Block* CudaAllocator::find(size_t size, BlockPool& blocks, bool is_private) {
  if (Block* const block = blocks.take(size)) return block;
  const bool small = BlockPool::is_small(size);
  const size_t least = (size + kSegmentUnit - 1) / kSegmentUnit * kSegmentUnit;
  if (Segment* const idle = idle_segment(size); idle && (!is_private || over_limit(idle->size) == 0)) {
    idle->pool->move(idle, blocks);
    if (is_private) count_private(*idle);
    return blocks.take(size);
  }
  if (is_private && over_limit(least) > 0) return nullptr;
  ++stats_.misses;
  size_t usual = least;
  if (!small && !is_private) usual = std::max(least, std::clamp(reserved_ / 8, kLeastSegment, kMostSegment));
  if (limit_ > 0 && reserved_ + usual > limit_) usual = least;
  bool added = add_segment(usual, small, blocks) || (usual > least && add_segment(least, small, blocks));
  if (!added && !is_recording()) {  // which may not wait for the device, as giving memory back does
    free_idle_segments();
    added = add_segment(least, small, blocks);
  }
  if (!added) return nullptr;
  if (is_private) count_private(*blocks.segments().back());
  return blocks.take(size);
}

bool CudaAllocator::add_segment(size_t bytes, bool small, BlockPool& pool) {
  void* data = nullptr;
  cudaError_t status;
  {
    const RelaxedCapture relaxed;
    status = cudaMalloc(&data, bytes);
  }
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return false;
  }
  check(status, "get memory");
  pool.add(static_cast<char*>(data), bytes, small);
  segments_.emplace(static_cast<const char*>(data), bytes);
  reserved_ += bytes;
  return true;
}

void CudaAllocator::count_private(const Segment& segment) {
  stats_.in_use += segment.size;
  taken_ += segment.size;
  stats_.peak = std::max(stats_.peak, stats_.in_use);
}

void CudaAllocator::free_idle_segments() noexcept {
  for (BlockPool* pool : {&common_, &lasting_}) {
    const std::list<Segment*> segments = pool->segments();
    for (Segment* segment : segments) {
      if (segment->blocks_in_use > 0) continue;
      cudaFree(segment->data);  // waits for what still uses it
      reserved_ -= segment->size;
      segments_.erase(segment->data);
      pool->remove(segment);
    }
  }
}

void CudaAllocator::release(void* data, size_t) noexcept {
  const std::lock_guard lock(mutex_);
  const auto found = in_use_.find(data);
  if (found == in_use_.end()) return;
  Block* const block = found->second;
  in_use_.erase(found);
  BlockPool* const pool = block->segment->pool;
  if (pool == &common_ || pool == &lasting_) {
    stats_.in_use -= block->asked;
    taken_ -= block->size;
  }
  pool->give_back(block);
}

CudaAllocator::PrivatePool::~PrivatePool() {
  CudaAllocator& a = allocator_;
  const std::lock_guard lock(a.mutex_);
  const std::list<Segment*> segments = blocks_.segments();
  for (Segment* segment : segments) {
    blocks_.move(segment, a.common_);
    a.stats_.in_use -= segment->size;
    a.taken_ -= segment->size;
    for (const Block* block = segment->first; block; block = block->after) {
      if (!block->in_use) continue;
      a.stats_.in_use += block->asked;
      a.taken_ += block->size;
    }
  }
}

size_t CudaAllocator::PrivatePool::bytes() const {
  const std::lock_guard lock(allocator_.mutex_);
  size_t sum = 0;
  for (const Segment* segment : blocks_.segments()) sum += segment->size;
  return sum;
}

CudaAllocator::PoolScope::PoolScope(PrivatePool* pool) : before_(std::exchange(pool_of_thread, pool)) {}
CudaAllocator::PoolScope::~PoolScope() { pool_of_thread = before_; }

MemoryStats CudaAllocator::stats() const {
  const std::lock_guard lock(mutex_);
  MemoryStats stats = stats_;
  stats.cached = reserved_ - taken_;
  return stats;
}

void CudaAllocator::reset_peak() {
  const std::lock_guard lock(mutex_);
  stats_.peak = stats_.in_use;
}

void CudaAllocator::release_cached() {
  refuse_recording("give memory back");
  const DeviceScope device(device_);
  const std::lock_guard lock(mutex_);
  free_idle_segments();
}

void CudaAllocator::set_limit(size_t bytes) {
  const std::lock_guard lock(mutex_);
  limit_ = bytes;
}

bool CudaAllocator::holds(const void* data) const {
  const std::lock_guard lock(mutex_);
  auto next = segments_.upper_bound(static_cast<const char*>(data));
  if (next == segments_.begin()) return false;
  --next;
  return static_cast<const char*>(data) < next->first + next->second;
}

Staging& CudaAllocator::staging(size_t bytes) {
  return bytes <= kSmallSlot ? small_staging_ : large_staging_;
}

void CudaAllocator::upload(void* to, const void* from, size_t bytes) {
  const DeviceScope device(device_);
  if (bytes == 0 || record_upload(to, from, bytes)) return;
  staging(bytes).upload(to, from, bytes, stream());
}

void CudaAllocator::download(void* to, const void* from, size_t bytes) {
  refuse_recording("copy to the host");
  const DeviceScope device(device_);
  staging(bytes).download(to, from, bytes, stream());
}

void CudaAllocator::copy(void* to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  const DeviceScope device(device_);
  const bool to_device = holds(to), from_device = holds(from);
  if (to_device && from_device) {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream()), "copy");
  } else if (to_device) {
    upload(to, from, bytes);
  } else if (from_device) {
    download(to, from, bytes);
  } else {
    std::memcpy(to, from, bytes);
  }
}

}  // namespace sinopia::cuda
