#pragma once

#include <map>
#include <mutex>
#include <unordered_map>

#include "sinopia/backend/cuda/block_pool.h"
#include "sinopia/backend/cuda/staging.h"
#include "sinopia/tensor/allocator.h"

namespace sinopia::cuda {

/// Memory of one GPU, in segments that blocks are cut out of and melt back into. What is free stays with the
/// process until release_cached() is called or the device has no more, so that a step that has run once runs
/// again without asking the device for anything. Freed blocks serve again at once: all work that uses them is
/// on one stream, so that what still uses a block is done before what uses it next; other streams wait for
/// the device's before they touch a block that is new to them. When memory is short, idle segments go back to
/// the device first, then the reclaimers are asked (reclaim.h).
class CudaAllocator final : public Allocator {
 public:
  explicit CudaAllocator(int device);
  void* allocate(size_t bytes) override;
  /// The same for what stays for long, as weights: in segments of their own, so that they leave no pieces
  /// between them that nothing large fits into.
  void* allocate_lasting(size_t bytes);
  void release(void* data, size_t bytes) noexcept override;
  MemoryStats stats() const override;
  void reset_peak() override;
  void release_cached() override;
  void set_limit(size_t bytes) override;

  /// Waits for the device only where `to` is the host's.
  void copy(void* to, const void* from, size_t bytes) override;
  /// The same where it is known which side is the host's.
  void upload(void* to, const void* from, size_t bytes);
  void download(void* to, const void* from, size_t bytes);

  /// Memory of a recording: what a thread allocates here while a PoolScope with it lives. Its segments are
  /// taken from the others' idle ones or the device, count as in use from then on, and serve no one else
  /// until it goes; blocks that are still in use then become ordinary ones.
  class PrivatePool {
   public:
    explicit PrivatePool(CudaAllocator& allocator) : allocator_(allocator) {}
    ~PrivatePool();
    PrivatePool(const PrivatePool&) = delete;
    PrivatePool& operator=(const PrivatePool&) = delete;
    /// Of all its segments.
    size_t bytes() const;

   private:
    friend class CudaAllocator;
    CudaAllocator& allocator_;
    BlockPool blocks_;
  };

  /// While it lives, this thread allocates from a private pool; null is the common one.
  class PoolScope {
   public:
    explicit PoolScope(PrivatePool* pool);
    ~PoolScope();
    PoolScope(const PoolScope&) = delete;
    PoolScope& operator=(const PoolScope&) = delete;

   private:
    PrivatePool* before_;
  };

 private:
  void* allocate(size_t bytes, BlockPool& blocks, PrivatePool* pool);
  Block* find(size_t size, BlockPool& blocks, bool is_private);
  Segment* idle_segment(size_t size) const;
  /// Asks the device for a segment; false if it has none.
  bool add_segment(size_t bytes, bool small, BlockPool& pool);
  void free_idle_segments() noexcept;
  /// Bytes by which `more` in use would pass the limit.
  size_t over_limit(size_t more) const;
  void count_private(const Segment& segment);
  bool holds(const void* data) const;
  Staging& staging(size_t bytes);

  const int device_;
  mutable std::mutex mutex_;
  BlockPool common_, lasting_;
  std::unordered_map<void*, Block*> in_use_;
  std::map<const char*, size_t> segments_;  // their bytes by their addresses
  MemoryStats stats_;
  size_t limit_ = 0;
  size_t reserved_ = 0;  // bytes of all segments
  size_t taken_ = 0;     // of them, in blocks in use and in private segments
  Staging small_staging_, large_staging_;
};

/// That of a device that has been opened.
CudaAllocator& cuda_allocator(int device);

}  // namespace sinopia::cuda
