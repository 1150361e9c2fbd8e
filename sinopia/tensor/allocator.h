#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "sinopia/tensor/device.h"

namespace sinopia {

/// Bytes handed out by one device's allocator.
struct MemoryStats {
  size_t in_use = 0;      ///< held by living tensors
  size_t peak = 0;        ///< the most ever in use since the last reset
  size_t cached = 0;      ///< kept for the next request
  uint64_t requests = 0;  ///< allocations asked for
  uint64_t misses = 0;    ///< of these, how many had to ask the system
};

/// Hands out blocks and keeps freed ones for the next request of about that size. Thread safe.
class Allocator {
 public:
  virtual ~Allocator() = default;
  /// Aligned to 64 bytes, not initialised. Throws OutOfMemory when the system or the limit refuses.
  virtual void* allocate(size_t bytes) = 0;
  /// `bytes` as it was asked for.
  virtual void release(void* data, size_t bytes) noexcept = 0;
  virtual MemoryStats stats() const = 0;
  virtual void reset_peak() = 0;
  /// Gives cached blocks back to the system.
  virtual void release_cached() = 0;
  /// Most bytes in use at once, 0 for no limit; more throws OutOfMemory.
  virtual void set_limit(size_t bytes) = 0;
  /// Copies among this allocator's memory and the host's, in the order of the device's other work. On return
  /// `from` may be written to, and `to`, if it is the host's, has the bytes.
  virtual void copy(void* to, const void* from, size_t bytes);
};

/// The allocator of a device. Throws Unsupported for a device this build does not have.
Allocator& allocator(Device device);

/// While it lives, this thread's tensors on the CPU come from another allocator, which must outlive them.
class CpuAllocatorScope {
 public:
  explicit CpuAllocatorScope(Allocator& allocator);
  ~CpuAllocatorScope();
  CpuAllocatorScope(const CpuAllocatorScope&) = delete;
  CpuAllocatorScope& operator=(const CpuAllocatorScope&) = delete;

 private:
  Allocator* before_;
};

constexpr int kMaxGpus = 16;

/// Installs the allocator of a GPU; a backend does so once, before its first tensor.
void register_allocator(Device device, Allocator& allocator);

}  // namespace sinopia
