#include "sinopia/tensor/tensor.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>

#include <gtest/gtest.h>

#include "sinopia/tensor/allocator.h"

namespace sinopia {
namespace {

ErrorKind kind_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.kind();
  }
  ADD_FAILURE() << "no error was thrown";
  return ErrorKind::Cancelled;
}

TEST(Shape, CountsAndRefuses) {
  EXPECT_EQ(Shape().numel(), 1);
  EXPECT_EQ((Shape{2, 0, 3}).numel(), 0);
  EXPECT_EQ((Shape{2, 5, 3}).dim(-1), 3);
  EXPECT_EQ(to_string(Shape{1, 64, 64, 9}), "[1,64,64,9]");
  EXPECT_EQ(kind_of([] { Shape{1, -1}; }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([] { Shape{1, 1, 1, 1, 1, 1, 1}; }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([] { Shape{int64_t{1} << 32, int64_t{1} << 32}; }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([] { Shape{0, int64_t{1} << 40, int64_t{1} << 40}; }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([] { Shape{2}.dim(1); }), ErrorKind::InvalidArgument);
}

TEST(Tensor, SlicesAndReshapesShareElements) {
  std::vector<float> values(24);
  std::iota(values.begin(), values.end(), 0.0f);
  const Tensor x = Tensor::from<float>({4, 3, 2}, values);
  const Tensor y = x.slice(1, 3).reshape({3, 4});
  EXPECT_EQ(y.storage(), x.storage());
  EXPECT_EQ(y.to_vector<float>(), std::vector<float>(values.begin() + 6, values.begin() + 18));
  EXPECT_EQ(x.slice(4, 4).numel(), 0);
  EXPECT_EQ(kind_of([&] { x.slice(2, 5); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { x.reshape({5, 5}); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { x.data<int32_t>(); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { Tensor().data<float>(); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { Tensor({7}, DType::F32, x.storage(), 96 - 24); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { Tensor::from<float>({5}, values); }), ErrorKind::InvalidArgument);
}

TEST(Tensor, QuantisedRowsAreWholeBlocks) {
  const std::pair<DType, size_t> bytes[] = {{DType::Q8_0, 34 * 16},
                                            {DType::Q4_0, 18 * 16},
                                            {DType::Q6_K, 210 * 2},
                                            {DType::Q5_K, 176 * 2},
                                            {DType::Q4_K, 144 * 2}};
  for (const auto& [dtype, of_a_row] : bytes) {
    EXPECT_TRUE(is_quantised(dtype));
    EXPECT_EQ(kind_of([dtype] { size_of(dtype); }), ErrorKind::InvalidArgument);
    const Tensor x = Tensor::empty({3, 2, 512}, dtype);
    EXPECT_EQ(x.bytes(), 6 * of_a_row);
    EXPECT_EQ(x.slice(1, 3).bytes(), 4 * of_a_row);
    EXPECT_EQ(x.slice(1, 3).byte_offset(), 2 * of_a_row);
    EXPECT_EQ(x.reshape({6, 512}).bytes(), x.bytes());
    EXPECT_EQ(kind_of([&] { x.reshape({2, 3, 256, 2}); }), ErrorKind::InvalidArgument);
    EXPECT_EQ(kind_of([&] { x.reshape({3, 1024}); }), ErrorKind::InvalidArgument);
    EXPECT_EQ(kind_of([&] { Tensor::empty({512}, dtype).slice(0, 256); }), ErrorKind::InvalidArgument);
    EXPECT_EQ(kind_of([&] { Tensor::empty({4, 16}, dtype); }), ErrorKind::InvalidArgument);
    EXPECT_EQ(kind_of([&] { x.data<float>(); }), ErrorKind::InvalidArgument);
    EXPECT_EQ(kind_of([&] { Tensor({7, 2, 512}, dtype, x.storage()); }), ErrorKind::InvalidArgument);
  }
  EXPECT_FALSE(is_quantised(DType::F32));
}

TEST(Allocator, CountsReusesAndLimits) {
  Allocator& memory = allocator({});
  memory.release_cached();
  memory.reset_peak();
  const MemoryStats before = memory.stats();
  const void* first = nullptr;
  {
    const Tensor x = Tensor::empty({1000, 1000});
    first = x.raw();
    EXPECT_EQ(reinterpret_cast<uintptr_t>(first) % 64, 0u);
    EXPECT_EQ(memory.stats().in_use, before.in_use + 4'000'000);
  }
  EXPECT_EQ(memory.stats().in_use, before.in_use);
  EXPECT_EQ(memory.stats().peak, before.in_use + 4'000'000);
  {
    const Tensor again = Tensor::empty({999, 999});
    EXPECT_EQ(again.raw(), first);
    EXPECT_EQ(memory.stats().misses, before.misses + 1);
  }
  memory.set_limit(memory.stats().in_use + 1000);
  EXPECT_EQ(kind_of([] { Tensor::empty({251}); }), ErrorKind::OutOfMemory);
  EXPECT_EQ(Tensor::empty({250}).bytes(), 1000u);
  memory.set_limit(0);
  memory.release_cached();
  EXPECT_EQ(memory.stats().cached, 0u);
  EXPECT_EQ(kind_of([] { Tensor::empty({int64_t{1} << 45}); }), ErrorKind::OutOfMemory);
}

TEST(Allocator, ServesAnySizeFromWhatItHolds) {
  Allocator& memory = allocator({});
  memory.release_cached();
  constexpr int64_t kMiB = 1 << 18;  // in floats
  std::vector<Tensor> parts;
  for (int i = 0; i < 8; ++i) parts.push_back(Tensor::empty({3 * kMiB + i}));
  for (size_t i = 0; i < parts.size(); ++i) {
    std::fill_n(parts[i].data<float>(), parts[i].numel(), static_cast<float>(i));
  }
  const uint64_t misses = memory.stats().misses;
  // Two neighbours and a hole: one block of twice the size, one of half; nobody else's values change.
  parts[2] = parts[3] = parts[6] = {};
  Tensor twice = Tensor::empty({6 * kMiB}), half = Tensor::empty({kMiB + 5});
  std::fill_n(twice.data<float>(), twice.numel(), -1.0f);
  std::fill_n(half.data<float>(), half.numel(), -2.0f);
  EXPECT_EQ(memory.stats().misses, misses);
  for (const size_t i : {0, 1, 4, 5, 7}) {
    const auto x = parts[i].values<float>();
    EXPECT_TRUE(std::all_of(x.begin(), x.end(), [&](float v) { return v == static_cast<float>(i); })) << i;
  }
  EXPECT_GT(memory.stats().cached, size_t{1} << 20);
  memory.release_cached();
  EXPECT_EQ(memory.stats().cached, 0u);
}

TEST(Allocator, SurvivesRandomUse) {
  Allocator& memory = allocator({});
  const size_t before = memory.stats().in_use;
  std::mt19937 random(1);
  std::vector<std::pair<Tensor, float>> living;
  for (int i = 0; i < 2000; ++i) {
    if (living.size() < 12 && random() % 3 != 0) {
      const int64_t size = random() % 2 == 0 ? 1 + random() % 5000 : (1 << 18) + random() % (1 << 20);
      Tensor x = Tensor::empty({size});
      const auto mark = static_cast<float>(i);
      x.data<float>()[0] = x.data<float>()[size - 1] = mark;
      living.emplace_back(std::move(x), mark);
    } else if (!living.empty()) {
      const size_t at = random() % living.size();
      const auto& [x, mark] = living[at];
      ASSERT_EQ(x.values<float>().front(), mark);
      ASSERT_EQ(x.values<float>().back(), mark);
      living.erase(living.begin() + static_cast<std::ptrdiff_t>(at));
    }
    if (i % 500 == 250) memory.release_cached();
  }
  living.clear();
  EXPECT_EQ(memory.stats().in_use, before);
}

}  // namespace
}  // namespace sinopia
