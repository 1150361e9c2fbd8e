#pragma once

#include <cstddef>
#include <list>
#include <set>

namespace sinopia::cuda {

class BlockPool;
struct Segment;

/// A part of a segment, in use or free. Two free ones never lie side by side.
struct Block {
  char* data = nullptr;
  size_t size = 0;
  size_t asked = 0;  ///< of it, what was asked for
  bool in_use = false;
  Segment* segment = nullptr;
  Block *before = nullptr, *after = nullptr;  ///< neighbours in the segment
};

/// A run of memory as it came from the system.
struct Segment {
  char* data = nullptr;
  size_t size = 0;
  bool small = false;
  BlockPool* pool = nullptr;
  Block* first = nullptr;
  size_t blocks_in_use = 0;
  std::list<Segment*>::iterator place;  ///< in the pool's list
};

/// Segments that are cut into blocks: those for requests below kLargeBlock, and the others. Only keeps the
/// books, never touches the memory. Not thread safe.
class BlockPool {
 public:
  static constexpr size_t kLargeBlock = size_t{1} << 20;
  /// What a request takes.
  static size_t block_size(size_t bytes);
  static bool is_small(size_t size) { return size < kLargeBlock; }

  BlockPool() = default;
  ~BlockPool();
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  /// The smallest free block that `size`, as block_size() tells it, fits into, cut to it, the rest staying
  /// free; of equal ones that with the lowest address. Null if there is none.
  Block* take(size_t size);
  /// Makes a block free, one with its free neighbours.
  void give_back(Block* block);

  /// Takes a segment in, as one free block.
  void add(char* data, size_t size, bool small);
  /// Moves a segment with all its blocks to another pool.
  void move(Segment* segment, BlockPool& to);
  /// The smallest segment for such requests that `size` fits into and none of which is in use; null if there
  /// is none.
  Segment* idle_segment(size_t size) const;
  /// Lets go of a segment none of which is in use.
  void remove(Segment* segment);

  const std::list<Segment*>& segments() const { return segments_; }

 private:
  struct BySize {
    bool operator()(const Block* a, const Block* b) const {
      return a->size != b->size ? a->size < b->size : a->data < b->data;
    }
  };
  using Free = std::set<Block*, BySize>;
  Free& free(bool small) { return small ? small_ : large_; }

  Free small_, large_;
  std::list<Segment*> segments_;
};

}  // namespace sinopia::cuda
