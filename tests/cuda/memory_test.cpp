#include <atomic>
#include <map>
#include <mutex>
#include <random>
#include <thread>

#include "sinopia/backend/cuda/block_pool.h"
#include "sinopia/backend/cuda/reclaim.h"
#include "sinopia/backend/parameter_store.h"
#include "sinopia/tensor/allocator.h"
#include "tests/cuda/on_gpu.h"

namespace sinopia::testing {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

class CudaMemory : public OnGpu {
 protected:
  void SetUp() override {
    OnGpu::SetUp();
    if (IsSkipped()) return;
    give_up_parameters(device());
    start_ = memory().stats();
  }
  void TearDown() override {
    if (!IsSkipped()) memory().set_limit(0);
  }
  Allocator& memory() const { return allocator(device()); }
  size_t in_use() const { return memory().stats().in_use - start_.in_use; }
  /// No more than `bytes` on top of what was in use at the start.
  void limit(size_t bytes) const { memory().set_limit(start_.in_use + bytes); }
  Tensor bytes(size_t count) const { return empty({static_cast<int64_t>(count)}, DType::U8); }

  MemoryStats start_;
};

TEST_F(CudaMemory, CountsBytesAsTheyWereAskedFor) {
  memory().reset_peak();
  {
    const Tensor a = bytes(1), b = bytes(1000);
    EXPECT_EQ(in_use(), 1001u);
    {
      const Tensor c = bytes(3 * kMiB + 7);
      EXPECT_EQ(in_use(), 3 * kMiB + 1008);
    }
    EXPECT_EQ(in_use(), 1001u);
    const Tensor d = bytes(5);
    const Tensor none = bytes(0);
    EXPECT_EQ(in_use(), 1006u);
  }
  const MemoryStats end = memory().stats();
  EXPECT_EQ(end.in_use, start_.in_use);
  EXPECT_EQ(end.peak - start_.in_use, 3 * kMiB + 1008);
  EXPECT_EQ(end.requests - start_.requests, 5u);
  EXPECT_GE(end.cached, 3 * kMiB + 7);
  memory().reset_peak();
  EXPECT_EQ(memory().stats().peak, end.in_use);
  memory().release_cached();
  EXPECT_LT(memory().stats().cached, end.cached);
}

TEST_F(CudaMemory, RefusesMoreThanTheLimit) {
  limit(4 * kMiB);
  const Tensor a = bytes(3 * kMiB);
  try {
    bytes(kMiB + 1);
    FAIL() << "expected to be refused";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::OutOfMemory);
    EXPECT_THAT(e.what(), ::testing::HasSubstr("2 MiB more would pass the limit of"));
    EXPECT_THAT(e.what(), ::testing::HasSubstr("MiB in use"));
  }
  const Tensor b = bytes(kMiB);
  EXPECT_EQ(in_use(), 4 * kMiB);
  limit(1);  // below what is in use already
  EXPECT_EQ(kind_of([&] { bytes(1); }), ErrorKind::OutOfMemory);
  memory().set_limit(0);
  bytes(kMiB);
  EXPECT_EQ(kind_of([&] { memory().allocate(size_t{1} << 50); }), ErrorKind::OutOfMemory);
}

TEST(CudaBlockPool, TakesTheBestFitAndMeltsNeighbours) {
  using cuda::Block;
  using cuda::BlockPool;
  EXPECT_EQ(BlockPool::block_size(0), 512u);
  EXPECT_EQ(BlockPool::block_size(513), 1024u);
  EXPECT_EQ(BlockPool::block_size(kMiB - 1), kMiB);  // no longer small
  EXPECT_EQ(BlockPool::block_size(3 * kMiB + 1), 3 * kMiB + 65536);
  BlockPool pool, other;
  std::vector<char> memory(64);  // never touched
  char* const base = memory.data();
  pool.add(base, 20 * kMiB, false);
  EXPECT_EQ(pool.take(512), nullptr);  // of the small ones there are none
  EXPECT_EQ(pool.take(21 * kMiB), nullptr);
  std::vector<Block*> blocks;
  for (const size_t size : {3, 1, 2, 1, 4}) blocks.push_back(pool.take(size * kMiB));
  EXPECT_EQ(blocks[4]->data, base + 7 * kMiB);
  pool.give_back(blocks[0]);
  pool.give_back(blocks[2]);
  pool.give_back(blocks[4]);
  Block* const best = pool.take(2 * kMiB);
  EXPECT_EQ(best->data, base + 4 * kMiB);
  Block* const next = pool.take(2 * kMiB);
  EXPECT_EQ(next->data, base);
  EXPECT_EQ(pool.take(kMiB)->data, base + 2 * kMiB);
  EXPECT_EQ(pool.idle_segment(kMiB), nullptr);
  pool.move(pool.segments().front(), other);
  EXPECT_EQ(pool.take(kMiB), nullptr);
  EXPECT_EQ(next->segment->pool, &other);
  other.give_back(blocks[1]);
  other.give_back(next);
  other.give_back(best);
  Block* const melted = other.take(3 * kMiB);  // the second and the third
  EXPECT_EQ(melted->data, base + 3 * kMiB);
  EXPECT_EQ(other.take(13 * kMiB)->data, base + 7 * kMiB);
}

// What a denoising step does: tensors of many sizes that come and go, some of them for long.
void step(const std::function<Tensor(size_t)>& make, unsigned seed) {
  std::mt19937 random(seed);
  std::map<int, Tensor> alive;  // by when they go
  for (int i = 0; i < 400; ++i) {
    while (!alive.empty() && alive.begin()->first <= i) alive.erase(alive.begin());
    const size_t size = random() % 3 == 0 ? 1 + random() % 4096 : (1 + random() % 24) * 400'000;
    const int life = random() % 8 == 0 ? 100 : 1 + static_cast<int>(random() % 5);
    int end = i + life;
    while (alive.contains(end)) ++end;
    alive.emplace(end, make(size));
  }
}

TEST_F(CudaMemory, AStepThatRanOnceAsksTheDeviceForNothing) {
  memory().release_cached();
  memory().reset_peak();
  const auto make = [&](size_t size) { return bytes(size); };
  step(make, 1);
  const MemoryStats first = memory().stats();
  for (int i = 0; i < 5; ++i) step(make, 1);
  const MemoryStats later = memory().stats();
  EXPECT_EQ(later.misses, first.misses);
  EXPECT_EQ(later.peak, first.peak);
  EXPECT_EQ(later.in_use, start_.in_use);
  // Little of what is held lies in pieces that are of no use, and steps of other sizes fit as well.
  EXPECT_LE(later.cached, (first.peak - start_.in_use) * 3 / 2 + 64 * kMiB);
  for (unsigned seed = 2; seed < 6; ++seed) step(make, seed);
  EXPECT_LE(memory().stats().cached, (memory().stats().peak - start_.in_use) * 3 / 2 + 64 * kMiB);
}

// Blocks of several threads against a list of who has which addresses.
TEST_F(CudaMemory, BlocksNeverOverlap) {
  std::mutex mutex;
  std::vector<std::pair<void*, size_t>> left;
  std::map<uintptr_t, uintptr_t> taken;  // begin to end
  std::atomic<int> overlaps{0}, unaligned{0};
  std::atomic<size_t> sum{0};
  const auto run = [&](unsigned seed) {
    std::mt19937 random(seed);
    std::vector<std::pair<void*, size_t>> mine;
    const auto release = [&](size_t i) {
      {
        const std::lock_guard lock(mutex);
        taken.erase(reinterpret_cast<uintptr_t>(mine[i].first));
      }
      sum -= mine[i].second;
      memory().release(mine[i].first, mine[i].second);
      mine[i] = mine.back();
      mine.pop_back();
    };
    for (int i = 0; i < 3000; ++i) {
      if (mine.size() > 60 || (!mine.empty() && random() % 2 == 0)) {
        release(random() % mine.size());
        continue;
      }
      const unsigned kind = random() % 4;
      const size_t size = kind == 0   ? random() % 600
                          : kind == 1 ? random() % (2 * kMiB)
                          : kind == 2 ? kMiB - 300 + random() % 600
                                      : random() % (6 * kMiB);
      void* const data = memory().allocate(size);
      const auto begin = reinterpret_cast<uintptr_t>(data), end = begin + std::max<size_t>(size, 1);
      if (begin % 64 != 0) ++unaligned;
      const std::lock_guard lock(mutex);
      const auto after = taken.lower_bound(begin);
      if (after != taken.end() && after->first < end) ++overlaps;
      if (after != taken.begin() && std::prev(after)->second > begin) ++overlaps;
      taken.emplace(begin, end);
      sum += size;
      mine.emplace_back(data, size);
    }
    while (mine.size() > 5) release(0);
    const std::lock_guard lock(mutex);
    for (const auto& [data, size] : mine) left.emplace_back(data, size);
  };
  std::thread other([&] { run(2); });
  run(1);
  other.join();
  EXPECT_EQ(overlaps, 0);
  EXPECT_EQ(unaligned, 0);
  EXPECT_EQ(in_use(), sum);
  for (const auto& [data, size] : left) memory().release(data, size);
  EXPECT_EQ(in_use(), 0u);
}

TEST_F(CudaMemory, CopiesOfAnySizeThereAndBack) {
  for (const size_t count : {size_t{1}, size_t{65536}, size_t{65537}, 4 * kMiB, 21 * kMiB + 13}) {
    std::vector<uint8_t> values(count), result(count);
    for (size_t i = 0; i < count; ++i) values[i] = static_cast<uint8_t>(i * 2654435761u >> 13);
    const std::vector<uint8_t> before = values;
    Tensor x = bytes(count), y = bytes(count);
    memory().copy(x.raw(), values.data(), count);
    std::fill(values.begin(), values.end(), uint8_t{0xee});  // it was read when copy() returned
    memory().copy(y.raw(), x.raw(), count);
    memory().copy(result.data(), y.raw(), count);
    EXPECT_EQ(result, before) << count;
    if (count > 100) {  // a part
      memory().copy(result.data(), static_cast<char*>(y.raw()) + 33, count - 33);
      EXPECT_TRUE(std::equal(before.begin() + 33, before.end(), result.begin())) << count;
    }
  }
}

// Registered for good: asked for nothing unless a test says so.
struct Hoard {
  std::vector<Tensor> tensors;
  int asked = 0;
  size_t wanted = 0;
  std::function<void()> also;
};
Hoard* hoard = nullptr;
size_t give_up_hoard(size_t wanted) {
  if (!hoard) return 0;
  ++hoard->asked;
  hoard->wanted = wanted;
  if (hoard->also) hoard->also();
  size_t given = 0;
  while (given < wanted && !hoard->tensors.empty()) {
    given += hoard->tensors.back().bytes();
    hoard->tensors.pop_back();
  }
  return given;
}

TEST_F(CudaMemory, AsksForWhatCanBeGivenUp) {
  static const bool registered = (cuda::register_reclaimer(give_up_hoard), true);
  ASSERT_TRUE(registered);
  Hoard mine;
  hoard = &mine;
  limit(20 * kMiB);
  for (int i = 0; i < 10; ++i) mine.tensors.push_back(bytes(2 * kMiB));
  EXPECT_EQ(mine.asked, 0);
  mine.also = [&] {  // is not asked again for what it asks for itself
    EXPECT_EQ(kind_of([&] { bytes(kMiB); }), ErrorKind::OutOfMemory);
  };
  const Tensor x = bytes(5 * kMiB);
  mine.also = nullptr;
  EXPECT_EQ(mine.asked, 1);
  EXPECT_EQ(mine.wanted, 5 * kMiB);
  EXPECT_EQ(mine.tensors.size(), 7u);
  {
    const cuda::NoReclaiming scope;
    EXPECT_EQ(kind_of([&] { bytes(5 * kMiB); }), ErrorKind::OutOfMemory);
  }
  EXPECT_EQ(mine.tensors.size(), 7u);
  EXPECT_EQ(kind_of([&] { bytes(16 * kMiB); }), ErrorKind::OutOfMemory);  // even without all of them
  EXPECT_TRUE(mine.tensors.empty());
  hoard = nullptr;
}

class CudaParameters : public CudaMemory {
 protected:
  void SetUp() override {
    CudaMemory::SetUp();
    if (!IsSkipped()) before_ = parameter_stats(device());
  }
  /// Parameters of `rows` x 1024, of which each row starts with its number.
  void make(int count, int64_t rows) {
    for (int i = 0; i < count; ++i) {
      hosts_.push_back(random_tensor({rows, 1024}, 100 + static_cast<unsigned>(i)));
      stored_.push_back(store_parameter(hosts_.back(), device(), DType::F32));
    }
  }
  /// A kernel that reads a parameter, its result on the host.
  Tensor used(size_t i) const {
    Tensor y = empty(stored_[i].shape());
    gpu().convert(stored_[i], y);
    return back(y);
  }
  size_t resident() const { return parameter_stats(device()).resident - before_.resident; }
  uint64_t uploads() const { return parameter_stats(device()).uploads - before_.uploads; }

  std::vector<Tensor> hosts_, stored_;
  ParameterStats before_;
};

TEST_F(CudaParameters, ComeWhenTheyAreUsed) {
  make(3, 50);
  const size_t each = hosts_[0].bytes();
  EXPECT_EQ(resident(), 0u);
  EXPECT_EQ(in_use(), 0u);
  EXPECT_EQ(stored_[1].device(), device());
  EXPECT_EQ(stored_[1].bytes(), each);
  EXPECT_TRUE(same_bits(used(1), hosts_[1]));
  EXPECT_EQ(resident(), each);
  EXPECT_EQ(in_use(), each);
  EXPECT_TRUE(same_bits(used(1), hosts_[1]));
  EXPECT_TRUE(same_bits(used(2), hosts_[2]));
  EXPECT_EQ(uploads(), 2u);
  give_up_parameters(device());
  EXPECT_EQ(resident(), 0u);
  EXPECT_EQ(in_use(), 0u);
  EXPECT_TRUE(same_bits(used(1), hosts_[1]));
  const ParameterStats now = parameter_stats(device());
  EXPECT_EQ(now.bytes - before_.bytes, 3 * each);
  stored_.clear();
  give_up_parameters(device());
  EXPECT_EQ(parameter_stats(device()).bytes, before_.bytes);
  EXPECT_EQ(parameter_stats(device()).resident, before_.resident);
  EXPECT_EQ(in_use(), 0u);
}

TEST_F(CudaParameters, AreConvertedThere) {
  for (const Shape& shape : {Shape{3, 5}, Shape{1, 1'100'003}, Shape{0, 7}}) {
    const Tensor x = random_tensor(shape, 5);
    for (const DType stored : kFloats)
      for (const DType dtype : kFloats) {
        const Tensor host = stored_as(x, stored);
        const Tensor there = store_parameter(host, device(), dtype);
        EXPECT_EQ(there.dtype(), dtype);
        EXPECT_EQ(there.shape(), shape);
        EXPECT_TRUE(same_bits(copy_to(there, Device{}), to_dtype(host, dtype)))
            << to_string(stored) << " to " << to_string(dtype);
      }
  }
  const Tensor quantised = to_dtype(random_tensor({256, 1024}, 6), DType::Q8_0);
  const Tensor there = store_parameter(quantised, device(), DType::F16);
  EXPECT_EQ(there.dtype(), DType::Q8_0);
  EXPECT_TRUE(same_bits(copy_to(there, Device{}), quantised));
  EXPECT_EQ(kind_of([&] { store_parameter(there, device(), DType::F16); }), ErrorKind::InvalidArgument);
}

TEST_F(CudaParameters, LeaveAndComeBackWhenMemoryIsShort) {
  constexpr size_t kCount = 80, kPasses = 4;
  make(kCount, 60);
  const size_t each = hosts_[0].bytes();
  limit(60 * each + 4 * each);
  for (size_t pass = 0; pass < kPasses; ++pass) {
    const uint64_t before = uploads();
    for (size_t i = 0; i < kCount; ++i) {
      ASSERT_TRUE(same_bits(used(i), hosts_[i])) << "pass " << pass << ", parameter " << i;
      ASSERT_LE(resident(), 64 * each);
    }
    // Of those that come around in turn, most stay.
    if (pass == kPasses - 1) {
      EXPECT_LT(uploads() - before, kCount / 2);
      EXPECT_GE(uploads() - before, kCount - 64);
    }
  }
  EXPECT_GT(parameter_stats(device()).ahead, before_.ahead);
  // Something else takes the room.
  const Tensor large = bytes(30 * each);
  EXPECT_TRUE(same_bits(used(7), hosts_[7]));
  EXPECT_LE(resident(), 34 * each);
  // What the last kernels may be reading stays.
  EXPECT_EQ(kind_of([&] { bytes(3 * each); }), ErrorKind::OutOfMemory);
  EXPECT_GE(resident(), 32 * each);
}

TEST_F(CudaParameters, OnceUsedLeaveFirst) {
  make(120, 4);
  const size_t each = hosts_[0].bytes();
  for (size_t i = 0; i < 40; ++i) used(i);  // as a text encoder
  for (int pass = 0; pass < 3; ++pass)
    for (size_t i = 40; i < 120; ++i) used(i);
  EXPECT_EQ(uploads(), 120u);
  limit(in_use() - 40 * each + 8 * each);
  for (size_t i = 40; i < 120; ++i) ASSERT_TRUE(same_bits(used(i), hosts_[i]));
  EXPECT_EQ(uploads(), 120u);
}

TEST_F(CudaParameters, OfTwoThreads) {
  make(150, 8);
  const size_t each = hosts_[0].bytes();
  limit(110 * each);
  std::atomic<int> wrong{0};
  const auto run = [&](unsigned seed) {
    std::mt19937 random(seed);
    for (int i = 0; i < 400; ++i) {
      const size_t which = seed == 1 ? static_cast<size_t>(i) % 150 : random() % 150;
      if (!same_bits(used(which), hosts_[which])) ++wrong;
      if (i % 100 == 99) give_up_parameters(device());
    }
  };
  std::thread other([&] { run(2); });
  run(1);
  other.join();
  EXPECT_EQ(wrong, 0);
  give_up_parameters(device());
  EXPECT_EQ(resident(), 0u);
  EXPECT_EQ(in_use(), 0u);
}

}  // namespace
}  // namespace sinopia::testing
