#include "sinopia/tensor/cpu_arena.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include <sys/mman.h>
#include <unistd.h>

namespace sinopia {
namespace {

constexpr size_t kPage = size_t{4} << 10;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kLeastReserve = size_t{64} << 20;

size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

}  // namespace

CpuArena::~CpuArena() {
  if (base_) munmap(base_, reserved_);
}

bool CpuArena::reserve() {
  if (base_) return true;
  const auto pages = static_cast<size_t>(std::max(sysconf(_SC_PHYS_PAGES), 1L));
  // Addresses alone cost nothing; only a limit on them can refuse.
  for (size_t size = round_up(2 * pages * static_cast<size_t>(sysconf(_SC_PAGESIZE)), kHugePage);
       size >= kLeastReserve; size = round_up(size / 2, kHugePage)) {
    void* raw =
        mmap(nullptr, size + kHugePage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw == MAP_FAILED) continue;
    char* begin = static_cast<char*>(raw);
    base_ = begin + (kHugePage - reinterpret_cast<uintptr_t>(begin) % kHugePage) % kHugePage;
    if (base_ > begin) munmap(begin, static_cast<size_t>(base_ - begin));
    if (base_ < begin + kHugePage) munmap(base_ + size, static_cast<size_t>(begin + kHugePage - base_));
    reserved_ = size;
    madvise(base_, reserved_, MADV_HUGEPAGE);
    return true;
  }
  return false;
}

void* CpuArena::allocate(size_t size) {
  size = round_up(std::max(size, kPage), kPage);
  if (!reserve() || size > reserved_) return nullptr;
  const auto rank = [](const Block& block) { return std::pair(!block.resident, block.size); };
  auto best = free_.end();
  for (auto block = free_.begin(); block != free_.end(); ++block) {
    if (block->second.size < size) continue;
    if (best == free_.end() || rank(block->second) < rank(best->second)) best = block;
  }
  if (best == free_.end()) best = extend(size);
  return best == free_.end() ? nullptr : take(best, size);
}

CpuArena::Blocks::iterator CpuArena::extend(size_t size) {
  auto last = free_.empty() ? free_.end() : std::prev(free_.end());
  if (last != free_.end() && last->first + last->second.size < end_) last = free_.end();
  const size_t have = last == free_.end() ? 0 : last->second.size;
  const size_t more = round_up(size - have, kHugePage);
  if (more > reserved_ - end_ || mprotect(base_ + end_, more, PROT_READ | PROT_WRITE) != 0)
    return free_.end();
  if (last == free_.end()) last = free_.emplace(end_, Block{0, false}).first;
  last->second.size += more;
  end_ += more;
  return last;
}

void* CpuArena::take(Blocks::iterator block, size_t size) {
  const auto [offset, found] = *block;
  free_.erase(block);
  reused_ = found.resident;
  if (found.resident) cached_ -= found.size;
  if (found.size > size) {
    free_.emplace(offset + size, Block{found.size - size, found.resident});
    if (found.resident) cached_ += found.size - size;
  }
  return base_ + offset;
}

void CpuArena::release(void* data, size_t size) noexcept {
  size = round_up(std::max(size, kPage), kPage);
  const auto offset = static_cast<size_t>(static_cast<char*>(data) - base_);
  auto block = free_.emplace(offset, Block{size, true}).first;
  cached_ += size;
  const auto join = [&](Blocks::iterator left, Blocks::iterator right) {
    if (left->first + left->second.size != right->first) return left;
    // Rather some bytes too many counted as held than two blocks that cannot serve one request.
    if (!left->second.resident) cached_ += left->second.size;
    if (!right->second.resident) cached_ += right->second.size;
    left->second = {left->second.size + right->second.size, true};
    free_.erase(right);
    return left;
  };
  if (const auto next = std::next(block); next != free_.end()) join(block, next);
  if (block != free_.begin()) join(std::prev(block), block);
}

void CpuArena::drop_free() noexcept {
  for (auto& [offset, block] : free_) {
    if (block.resident) madvise(base_ + offset, block.size, MADV_DONTNEED);
    block.resident = false;
  }
  cached_ = 0;
}

}  // namespace sinopia
