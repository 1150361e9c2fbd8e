#include "sinopia/train/data/prefetch.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sinopia/base/threads.h"
#include "sinopia/train/draws.h"
#include "tests/kind_of.h"

namespace sinopia {
namespace {

using namespace std::chrono_literals;
using testing::kind_of;

/// Waits for at most ten seconds.
template <class Condition>
bool comes_true(const Condition& condition) {
  for (int i = 0; i < 10'000 && !condition(); ++i) std::this_thread::sleep_for(1ms);
  return condition();
}

std::vector<double> items_of(int ahead) {
  Prefetch<double> items(3, 60, ahead, [](int64_t i) {
    Draws draws(1, Purpose::Noise, static_cast<uint32_t>(i));
    if (draws.chance(0.3)) std::this_thread::sleep_for(200us);
    return draws.normal();
  });
  std::vector<double> all;
  while (auto item = items.next()) all.push_back(*item);
  EXPECT_EQ(items.next(), std::nullopt);
  return all;
}

TEST(Prefetch, GivesTheSameItemsHoweverFarAhead) {
  const auto expected = items_of(0);
  EXPECT_EQ(expected.size(), 57u);
  for (const int ahead : {1, 2, 7, 100}) EXPECT_EQ(items_of(ahead), expected) << ahead;
}

TEST(Prefetch, IsAsFarAheadAsAskedAndNoFurther) {
  for (const int ahead : {1, 3}) {
    std::atomic<int> made{0};
    Prefetch<int> items(0, 100, ahead, [&](int64_t i) {
      ++made;
      return static_cast<int>(i);
    });
    ASSERT_TRUE(comes_true([&] { return made == ahead; }));
    std::this_thread::sleep_for(20ms);
    EXPECT_EQ(made, ahead);
    EXPECT_EQ(items.next(), 0);
    ASSERT_TRUE(comes_true([&] { return made == ahead + 1; }));
  }
}

TEST(Prefetch, WorksWhileTheConsumerDoes) {
  const auto consumer = std::this_thread::get_id();
  std::set<std::thread::id> makers;
  Prefetch<int> items(0, 5, 2, [&](int64_t i) {
    makers.insert(std::this_thread::get_id());
    return static_cast<int>(i);
  });
  while (items.next()) {
  }
  EXPECT_EQ(makers.size(), 1u);
  EXPECT_FALSE(makers.contains(consumer));
}

TEST(Prefetch, PassesAnErrorOnInItsPlace) {
  for (const int ahead : {0, 1, 4}) {
    int made = 0;
    Prefetch<int> items(0, 10, ahead, [&](int64_t i) {
      ++made;
      SINOPIA_CHECK(i != 2, Corrupt, "[test] broken");
      return static_cast<int>(i);
    });
    EXPECT_EQ(items.next(), 0);
    EXPECT_EQ(items.next(), 1);
    for (int again = 0; again < 3; ++again)
      EXPECT_EQ(kind_of([&] { items.next(); }), ErrorKind::Corrupt) << ahead;
    EXPECT_EQ(made, 3) << "nothing is made after it";
  }
}

TEST(Prefetch, StopsCleanlyWhenItIsLeftEarly) {
  for (int round = 0; round < 50; ++round) {
    auto counted = std::make_shared<int>(0);
    {
      Prefetch<std::shared_ptr<int>> items(0, 1000, 1 + round % 4, [&](int64_t) { return counted; });
      for (int i = 0; i < round % 3; ++i) items.next();
    }
    EXPECT_EQ(counted.use_count(), 1);
  }
}

TEST(Prefetch, TakesItemsThatCannotBeCopied) {
  Prefetch<std::unique_ptr<int>> items(0, 2, 1,
                                       [](int64_t i) { return std::make_unique<int>(static_cast<int>(i)); });
  EXPECT_EQ(**items.next(), 0);
  EXPECT_EQ(**items.next(), 1);
  EXPECT_FALSE(items.next());
}

TEST(Prefetch, LeavesTheOtherCoresToTheConsumer) {
  set_thread_count(4);
  const auto threads_used = [] {
    std::mutex mutex;
    std::set<std::thread::id> used;
    parallel_for(64, 1, [&](int64_t, int64_t) {
      std::this_thread::sleep_for(500us);
      const std::lock_guard lock(mutex);
      used.insert(std::this_thread::get_id());
    });
    return used.size();
  };
  Prefetch<size_t> items(0, 1, 1, [&](int64_t) { return threads_used(); });
  EXPECT_EQ(items.next(), 1u);
  EXPECT_GT(threads_used(), 1u);
  {
    const SerialSection outer;
    { const SerialSection inner; }
    EXPECT_EQ(threads_used(), 1u);
  }
  EXPECT_GT(threads_used(), 1u);
  set_thread_count(0);
}

TEST(Prefetch, RefusesWhatMakesNoSense) {
  const auto make = [](int64_t) { return 0; };
  EXPECT_EQ(kind_of([&] { Prefetch<int>(0, 1, -1, make); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { Prefetch<int>(2, 1, 1, make); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(Prefetch<int>(2, 2, 1, make).next(), std::nullopt);
}

}  // namespace
}  // namespace sinopia
