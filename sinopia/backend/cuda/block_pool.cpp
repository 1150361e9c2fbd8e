#include "sinopia/backend/cuda/block_pool.h"

#include <algorithm>

namespace sinopia::cuda {
namespace {

constexpr size_t kSmallUnit = 512, kLargeUnit = size_t{64} << 10;

size_t rounded_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

}  // namespace

size_t BlockPool::block_size(size_t bytes) {
  const size_t small = rounded_up(std::max<size_t>(bytes, 1), kSmallUnit);
  return is_small(small) ? small : rounded_up(bytes, kLargeUnit);
}

BlockPool::~BlockPool() {
  for (Segment* segment : segments_) {
    for (Block* block = segment->first; block;) {
      Block* const next = block->after;
      delete block;
      block = next;
    }
    delete segment;
  }
}

Block* BlockPool::take(size_t size) {
  Free& blocks = free(is_small(size));
  Block wanted;
  wanted.size = size;
  const auto found = blocks.lower_bound(&wanted);
  if (found == blocks.end()) return nullptr;
  Block* const block = *found;
  blocks.erase(found);
  if (block->size > size) {
    auto* const rest = new Block;
    rest->data = block->data + size;
    rest->size = block->size - size;
    rest->segment = block->segment;
    rest->before = block;
    rest->after = block->after;
    if (rest->after) rest->after->before = rest;
    block->after = rest;
    block->size = size;
    blocks.insert(rest);
  }
  block->in_use = true;
  ++block->segment->blocks_in_use;
  return block;
}

void BlockPool::give_back(Block* block) {
  Free& blocks = free(block->segment->small);
  block->in_use = false;
  block->asked = 0;
  --block->segment->blocks_in_use;
  if (Block* const after = block->after; after && !after->in_use) {
    blocks.erase(after);
    block->size += after->size;
    block->after = after->after;
    if (block->after) block->after->before = block;
    delete after;
  }
  if (Block* const before = block->before; before && !before->in_use) {
    blocks.erase(before);
    before->size += block->size;
    before->after = block->after;
    if (before->after) before->after->before = before;
    delete block;
    block = before;
  }
  blocks.insert(block);
}

void BlockPool::add(char* data, size_t size, bool small) {
  auto* const segment = new Segment{.data = data, .size = size, .small = small, .pool = this, .place = {}};
  auto* const block = new Block{.data = data, .size = size, .segment = segment};
  segment->first = block;
  segment->place = segments_.insert(segments_.end(), segment);
  free(small).insert(block);
}

void BlockPool::move(Segment* segment, BlockPool& to) {
  for (Block* block = segment->first; block; block = block->after) {
    if (block->in_use) continue;
    free(segment->small).erase(block);
    to.free(segment->small).insert(block);
  }
  to.segments_.splice(to.segments_.end(), segments_, segment->place);
  segment->pool = &to;
}

Segment* BlockPool::idle_segment(size_t size) const {
  Segment* best = nullptr;
  for (Segment* segment : segments_) {
    if (segment->blocks_in_use > 0 || segment->small != is_small(size) || segment->size < size) continue;
    if (!best || segment->size < best->size) best = segment;
  }
  return best;
}

void BlockPool::remove(Segment* segment) {
  free(segment->small).erase(segment->first);
  segments_.erase(segment->place);
  delete segment->first;
  delete segment;
}

}  // namespace sinopia::cuda
