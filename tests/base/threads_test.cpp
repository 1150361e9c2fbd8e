#include "sinopia/base/threads.h"

#include <atomic>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "sinopia/base/error.h"

namespace sinopia {
namespace {

class Threads : public testing::Test {
 protected:
  void TearDown() override { set_thread_count(0); }
};

TEST_F(Threads, EveryIndexIsVisitedOnceForAnyThreadCount) {
  for (int threads : {1, 2, 3, 7}) {
    set_thread_count(threads);
    for (int64_t count : {0, 1, 5, 64, 1001}) {
      for (int64_t grain : {0, 1, 7, 64, 2000}) {
        std::vector<std::atomic<int>> visits(static_cast<size_t>(count));
        parallel_for(count, grain, [&](int64_t begin, int64_t end) {
          EXPECT_LE(end - begin, std::max<int64_t>(grain, 1));
          for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
        });
        for (const auto& v : visits) EXPECT_EQ(v, 1);
      }
    }
  }
}

TEST_F(Threads, ABodysExceptionReachesTheCaller) {
  set_thread_count(3);
  EXPECT_THROW(parallel_for(100, 1,
                            [](int64_t begin, int64_t) {
                              if (begin == 57) fail(ErrorKind::Corrupt, "57");
                            }),
               Error);
}

TEST_F(Threads, NestedLoopsRun) {
  set_thread_count(2);
  std::atomic<int> total{0};
  parallel_for(8, 1, [&](int64_t, int64_t) { parallel_for(8, 1, [&](int64_t, int64_t) { ++total; }); });
  EXPECT_EQ(total, 64);
}

TEST_F(Threads, ShortLoopsFromSeveralThreadsAtOnce) {
  set_thread_count(4);
  std::atomic<int64_t> total{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 3; ++c) {
    callers.emplace_back([&total] {
      for (int64_t round = 0; round < 3000; ++round) {
        std::atomic<int64_t> sum{0};
        const int64_t count = 1 + round % 17;
        parallel_for(count, 1, [&](int64_t begin, int64_t) { sum += begin + 1; });
        EXPECT_EQ(sum, count * (count + 1) / 2);
        total += sum;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_GT(total, 0);
}

TEST_F(Threads, RefusesSillyCounts) {
  EXPECT_THROW(set_thread_count(-1), Error);
  EXPECT_THROW(set_thread_count(1025), Error);
}

}  // namespace
}  // namespace sinopia
