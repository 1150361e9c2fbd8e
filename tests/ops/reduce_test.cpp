#include "sinopia/ops/reduce.h"

#include <limits>

#include "tests/reference.h"

namespace sinopia {
namespace {

using namespace testing;

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

}  // namespace
}  // namespace sinopia
