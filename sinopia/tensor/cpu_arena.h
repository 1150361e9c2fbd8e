#pragma once

#include <cstddef>
#include <map>

namespace sinopia {

/// One range of addresses out of which large blocks are cut, the best fit of those in use before, and into
/// which they melt back: memory that the system has cleared once serves blocks of any size. The range is
/// reserved on first use, as large as the machine's memory twice over, and made usable as it is needed, on
/// huge pages where the system has them. Not thread safe.
class CpuArena {
 public:
  CpuArena() = default;
  ~CpuArena();
  CpuArena(const CpuArena&) = delete;
  CpuArena& operator=(const CpuArena&) = delete;

  /// `size` bytes on a boundary of 4 KiB, or nullptr if the system has no more.
  void* allocate(size_t size);
  /// `size` as it was asked for.
  void release(void* data, size_t size) noexcept;
  /// Gives the pages of all free blocks back to the system.
  void drop_free() noexcept;

  /// Bytes of free blocks whose pages the process may still hold.
  size_t cached() const { return cached_; }
  /// Whether the last block came from pages that the process held already.
  bool reused() const { return reused_; }

 private:
  struct Block {
    size_t size;
    bool resident;  // some of it may be
  };
  using Blocks = std::map<size_t, Block>;  // by offset; neighbours are never both free

  bool reserve();
  void* take(Blocks::iterator block, size_t size);
  /// Adds fresh pages at the end, as one free block with what is free there already.
  Blocks::iterator extend(size_t size);

  char* base_ = nullptr;
  size_t reserved_ = 0, end_ = 0, cached_ = 0;
  Blocks free_;
  bool reused_ = false;
};

}  // namespace sinopia
