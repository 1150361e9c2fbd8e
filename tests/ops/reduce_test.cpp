#include "sinopia/ops/reduce.h"

#include <algorithm>
#include <limits>
#include <random>

#include "tests/kind_of.h"
#include "tests/reference.h"

namespace sinopia {
namespace {

using namespace testing;

TEST(Item, IsTheOneElement) {
  EXPECT_EQ(item(Tensor::from({1, 1}, std::vector<float>{0.1f})), static_cast<double>(0.1f));
  EXPECT_EQ(testing::kind_of([] { item(Tensor::empty({2})); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(testing::kind_of([] { item(Tensor::empty({0})); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(testing::kind_of([] { item(Tensor::empty({1}, DType::F16)); }), ErrorKind::InvalidArgument);
}

TEST(Moments, MatchTheFormula) {
  for (const Shape& shape : {Shape{1, 2}, Shape{3, 7}, Shape{2, 5, 4, 3}, Shape{2, 100003}}) {
    for (int correction : {0, 1}) {
      const Tensor x = random_tensor(shape, 3, 2, 50);
      const std::vector<double> v = doubles(x);
      const auto N = static_cast<size_t>(shape.dim(0)), count = v.size() / N;
      std::vector<double> means, variances;
      for (size_t n = 0; n < N; ++n) {
        double mean = 0, squares = 0;
        for (size_t i = 0; i < count; ++i) mean += v[n * count + i] / static_cast<double>(count);
        for (size_t i = 0; i < count; ++i) squares += std::pow(v[n * count + i] - mean, 2);
        means.push_back(mean);
        variances.push_back(squares / static_cast<double>(count - static_cast<size_t>(correction)));
      }
      const Moments got = moments(x, correction);
      EXPECT_EQ(got.mean.shape(), Shape{shape.dim(0)});
      expect_close(got.mean, means, 0, kEpsilon * 1.001);
      expect_close(got.variance, variances, 0, kEpsilon * 1.001);
    }
  }
  const Tensor x = random_tensor({2, 300007}, 4);
  expect_same_for_any_thread_count([&] { return moments(x).variance; });
}

TEST(Moments, OfTooFewNumbersAreNaN) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  expect_close(moments(random_tensor({2, 1}, 1)).variance, {nan, nan}, 0, 0);
  expect_close(moments(Tensor::empty({1, 0})).mean, {nan}, 0, 0);
  EXPECT_EQ(moments(Tensor::empty({0, 3})).mean.numel(), 0);
  expect_error(ErrorKind::InvalidArgument, "[moments] expected correction >= 0",
               [] { moments(Tensor::empty({1}), -1); });
  expect_error(ErrorKind::InvalidArgument, "[moments] expected x with at least 1",
               [] { moments(Tensor::empty(Shape{})); });
}

TEST(AllFinite, FindsOneBadNumberAnywhere) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (int64_t n : {1, 7, 100003}) {
    Tensor x = random_tensor({n}, 1);
    x.data<float>()[0] = std::numeric_limits<float>::max();
    EXPECT_TRUE(all_finite(x));
    for (float bad : {inf, -inf, nan, -nan}) {
      for (int64_t at : {int64_t{0}, n / 2, n - 1}) {
        const float good = x.data<float>()[at];
        x.data<float>()[at] = bad;
        EXPECT_FALSE(all_finite(x));
        x.data<float>()[at] = good;
      }
    }
  }
  EXPECT_TRUE(all_finite(Tensor::empty({0})));
}

TEST(RowMax, FindsTheFirstOfTheLargest) {
  for (const Shape& shape : {Shape{1, 1}, Shape{7, 13}, Shape{3, 50, 257}, Shape{2, 40000}}) {
    const Tensor x = random_tensor(shape, 3);
    const int64_t D = shape.dim(-1), rows = x.numel() / D;
    const RowMax got = row_max(x);
    EXPECT_EQ(got.place.numel(), rows);
    EXPECT_EQ(got.value.rank(), x.rank() - 1);
    for (int64_t i = 0; i < rows; ++i) {
      const float* row = x.data<float>() + i * D;
      const int64_t best = std::max_element(row, row + D) - row;
      ASSERT_EQ(got.place.data<int32_t>()[i], best);
      ASSERT_EQ(got.value.data<float>()[i], row[best]);
    }
  }
  EXPECT_EQ(*row_max(Tensor::from(Shape{1, 4}, std::vector<float>{-3, -1, -1, -2})).place.data<int32_t>(), 1);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(*row_max(Tensor::from(Shape{1, 3}, std::vector<float>{nan, nan, nan})).place.data<int32_t>(), 0);
  EXPECT_EQ(row_max(Tensor::empty({0, 3})).place.numel(), 0);
  const Tensor x = random_tensor({3000, 70}, 5);
  expect_same_for_any_thread_count([&] { return row_max(x).value; });
  expect_error(ErrorKind::InvalidArgument, "[row_max] expected rows with elements", [] {
    row_max(Tensor::empty({3, 0}));
  });
  expect_error(ErrorKind::InvalidArgument, "[row_max] expected x with at least 1",
               [] { row_max(Tensor::empty(Shape{})); });
}

TEST(GroupMean, IsTheMeanOfEachGroup) {
  for (const auto& [B, T, C, M] : {std::tuple(1, 1, 1, 1), {2, 37, 5, 9}, {3, 200, 33, 50}}) {
    const Tensor x = random_tensor({B, T, C}, 6);
    std::mt19937 engine(7);
    std::vector<int32_t> groups(static_cast<size_t>(B * T));
    for (int32_t& g : groups) g = static_cast<int32_t>(engine() % static_cast<unsigned>(M));
    std::vector<double> sums(static_cast<size_t>(B * M * C));
    std::vector<int> counts(static_cast<size_t>(B * M));
    for (int b = 0; b < B; ++b) {
      for (int t = 0; t < T; ++t) {
        const size_t g = static_cast<size_t>(b * M + groups[static_cast<size_t>(b * T + t)]);
        ++counts[g];
        for (int c = 0; c < C; ++c)
          sums[g * static_cast<size_t>(C) + static_cast<size_t>(c)] +=
              double{x.data<float>()[(b * T + t) * C + c]};
      }
    }
    for (size_t i = 0; i < sums.size(); ++i) sums[i] /= std::max(1, counts[i / static_cast<size_t>(C)]);
    const Tensor group = Tensor::from(Shape{B, T}, groups);
    expect_close(group_mean(x, group, M), sums, T * 4 * kEpsilon, 0);
    expect_same_for_any_thread_count([&, m = M] { return group_mean(x, group, m); });
  }
  const Tensor x = random_tensor({1, 2, 3}, 8);
  expect_error(ErrorKind::InvalidArgument, "[group_mean] expected groups in [0,2), got 2", [&] {
    group_mean(x, Tensor::from(Shape{1, 2}, std::vector<int32_t>{0, 2}), 2);
  });
  expect_error(ErrorKind::InvalidArgument, "[group_mean] expected groups i32 [1,2]", [&] {
    group_mean(x, Tensor::from(Shape{2}, std::vector<int32_t>{0, 1}), 2);
  });
}

}  // namespace
}  // namespace sinopia
