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
  SINOPIA_CHECK(bytes <= (size_t{1} << 62), OutOfMemory, "[cuda] cannot allocate {} bytes", bytes);
  const DeviceScope device(device_);
  PrivatePool* const pool = pool_of_thread && &pool_of_thread->allocator_ == this ? pool_of_thread : nullptr;
  const size_t size = BlockPool::block_size(bytes);
  size_t over = 0;
  for (int round = 0;; ++round) {
    {
      const std::lock_guard lock(mutex_);
      if (round == 0) ++stats_.requests;
      over = pool ? 0 : over_limit(bytes);  // a private pool counts its segments as they come
      if (Block* const block = over ? nullptr : find(size, pool)) {
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
                mebibytes(bytes), limit_ >> 20, device_, mebibytes(now.in_use));
  fail(ErrorKind::OutOfMemory, "[cuda] cuda:{} has no {} MiB left ({} MiB in use, {} MiB in free pieces)",
       device_, mebibytes(bytes), mebibytes(now.in_use), mebibytes(now.cached));
}

size_t CudaAllocator::over_limit(size_t more) const {
  if (limit_ == 0 || stats_.in_use + more <= limit_) return 0;
  return stats_.in_use + more - limit_;
}

Block* CudaAllocator::find(size_t size, PrivatePool* pool) {
  BlockPool& blocks = pool ? pool->blocks_ : common_;
  if (Block* const block = blocks.take(size)) return block;
  if (pool) {
    Segment* const idle = common_.idle_segment(size);
    if (idle && over_limit(idle->size) == 0) {
      common_.move(idle, blocks);
      count_private(*idle, blocks);
      return blocks.take(size);
    }
  }
  ++stats_.misses;
  const size_t least = BlockPool::is_small(size) ? kSegmentUnit : (size + kSegmentUnit - 1) / kSegmentUnit * kSegmentUnit;
  size_t usual = least;
  if (!BlockPool::is_small(size)) usual = std::max(least, std::clamp(reserved_ / 8, kLeastSegment, kMostSegment));
  if (pool || (limit_ > 0 && reserved_ + usual > limit_)) usual = least;
  return nullptr;
}
