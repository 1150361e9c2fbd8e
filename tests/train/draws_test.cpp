#include "sinopia/train/draws.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include <gtest/gtest.h>

#include "tests/kind_of.h"

namespace sinopia {
namespace {

TEST(Draws, DependOnEveryPartOfTheirName) {
  std::set<uint32_t> first;
  int count = 0;
  for (const uint64_t seed : {0ull, 1ull, 1ull << 32})
    for (const Purpose purpose : {Purpose::Noise, Purpose::Flip})
      for (const uint32_t step : {0u, 1u, 77u})
        for (const uint32_t index : {0u, 1u}) {
          Draws draws(seed, purpose, step, index), again(seed, purpose, step, index);
          const uint32_t bits = draws.bits();
          EXPECT_EQ(bits, again.bits());
          first.insert(bits);
          ++count;
        }
  EXPECT_EQ(static_cast<int>(first.size()), count);
}

// Of n uniform numbers mean and variance have standard errors of 0.289 / sqrt(n) and 0.0745 / sqrt(n), of n
// normal ones 1 / sqrt(n) and 1.41 / sqrt(n); five of them are allowed.
TEST(Draws, HaveTheMomentsOfTheirDistribution) {
  constexpr int n = 200000;
  const double error = 5 / std::sqrt(static_cast<double>(n));
  Draws draws(3, Purpose::Noise, 9);
  double sum = 0, squares = 0;
  for (int i = 0; i < n; ++i) {
    const double x = draws.uniform();
    ASSERT_GT(x, 0);
    ASSERT_LT(x, 1);
    sum += x, squares += x * x;
  }
  EXPECT_NEAR(sum / n, 0.5, 0.289 * error);
  EXPECT_NEAR(squares / n - sum * sum / n / n, 1.0 / 12, 0.0745 * error);

  std::vector<float> normal(n);
  draws.normal(normal);
  sum = squares = 0;
  double fourth = 0, neighbours = 0;
  for (int i = 0; i < n; ++i) {
    const double x = normal[i];
    sum += x, squares += x * x, fourth += x * x * x * x;
    if (i > 0) neighbours += x * normal[i - 1];
  }
  EXPECT_NEAR(sum / n, 0, error);
  EXPECT_NEAR(squares / n, 1, 1.41 * error);
  EXPECT_NEAR(fourth / n, 3, 9.8 * error);
  EXPECT_NEAR(neighbours / n, 0, error);
}

TEST(Draws, IntegersAreEquallyLikely) {
  Draws draws(8, Purpose::Crop, 1);
  constexpr int n = 70000, count = 7;
  int seen[count] = {};
  for (int i = 0; i < n; ++i) ++seen[draws.integer(count)];
  for (const int times : seen) EXPECT_NEAR(times, n / count, 5 * std::sqrt(n / count * (1 - 1.0 / count)));
  EXPECT_EQ(draws.integer(1), 0);
  EXPECT_GE(draws.integer(INT64_MAX), 0);
  EXPECT_EQ(testing::kind_of([&] { draws.integer(0); }), ErrorKind::InvalidArgument);
}

TEST(Draws, AShuffledEpochTakesEachSampleOnce) {
  const auto order = shuffled(1000, 4, 0), other = shuffled(1000, 4, 1), again = shuffled(1000, 4, 0);
  EXPECT_EQ(order, again);
  EXPECT_NE(order, other);
  std::vector<int64_t> sorted(order), all(1000);
  std::sort(sorted.begin(), sorted.end());
  std::iota(all.begin(), all.end(), int64_t{0});
  EXPECT_EQ(sorted, all);
  EXPECT_NE(order, all);
  EXPECT_TRUE(shuffled(0, 4, 0).empty());
}

}  // namespace
}  // namespace sinopia
