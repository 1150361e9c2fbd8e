#include "sinopia/ops/activation.h"

#include <limits>

#include "tests/instruction_sets.h"
#include "tests/reference.h"

namespace sinopia {
namespace {

using namespace testing;

double phi(double x) { return 0.5 * std::erfc(-x * std::sqrt(0.5)); }
double logistic(double x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); }

double exact(Activation activation, double x) {
  switch (activation) {
    case Activation::None:
      return x;
    case Activation::Silu:
      return x * logistic(x);
    case Activation::Gelu:
      return x * phi(x);
    case Activation::GeluTanh:
      return x * 0.5 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::QuickGelu:
      return x * logistic(1.702 * x);
    case Activation::Relu:
      return x > 0 ? x : 0;
    case Activation::Tanh:
      return std::tanh(x);
    case Activation::Sigmoid:
      return logistic(x);
  }
  return 0;
}

constexpr Activation kAll[] = {Activation::None,     Activation::Silu,      Activation::Gelu,
                               Activation::GeluTanh, Activation::QuickGelu, Activation::Relu,
                               Activation::Tanh,     Activation::Sigmoid};

TEST(Activation, MatchesTheFormulaAtAnySize) {
  for_each_instruction_set([] {
    unsigned seed = 1;
    for (const Shape& shape :
         {Shape{}, Shape{1}, Shape{7}, Shape{3, 5}, Shape{2, 3, 4, 17}, Shape{1, 2, 3, 2, 5}}) {
      const Tensor x = random_tensor(shape, seed++, 4);
      for (Activation activation : kAll) {
        std::vector<double> expected = doubles(x);
        for (double& v : expected) v = exact(activation, v);
        expect_close(activate(x, activation), expected, 8 * kEpsilon, 8 * kEpsilon);
      }
    }
  });
}

TEST(Activation, ReachesItsLimits) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor x =
      Tensor::from(Shape{9}, std::vector<float>{-1e30f, 1e30f, -200, 200, -0.0f, 0, inf, nan, -1e-30f});
  for_each_instruction_set([&] {
    for (Activation activation :
         {Activation::Silu, Activation::Gelu, Activation::QuickGelu, Activation::Relu}) {
      expect_close(activate(x, activation), {0, 1e30f, 0, 200, 0, 0, inf, nan, exact(activation, -1e-30)},
                   1e-38, 4 * kEpsilon);
    }
  });
}

TEST(Activation, TheElementDoesNotDependOnItsPlace) {
  const Tensor x = random_tensor({1, 1031}, 5, 3);
  for_each_instruction_set([&] {
    for (Activation activation : kAll) {
      const Tensor whole = activate(x, activation);
      for (int64_t begin : {1, 2, 3, 5, 13}) {
        const Tensor part = x.reshape({1031}).slice(begin, 1031);
        EXPECT_TRUE(same_bits(activate(part, activation), whole.reshape({1031}).slice(begin, 1031)));
      }
    }
  });
}

TEST(Activation, SameBitsForAnyThreadCount) {
  const Tensor x = random_tensor({3, 20011, 2}, 6, 3);
  expect_same_for_any_thread_count([&] { return silu(x); });
  expect_same_for_any_thread_count([&] { return geglu(x); });
  expect_same_for_any_thread_count([&] { return softmax(x); });
}

TEST(Activation, Empty) {
  EXPECT_EQ(silu(Tensor::empty({0, 4})).numel(), 0);
  EXPECT_EQ(geglu(Tensor::empty({0, 4})).shape(), (Shape{0, 2}));
  EXPECT_EQ(geglu(Tensor::empty({3, 0})).shape(), (Shape{3, 0}));
  EXPECT_EQ(softmax(Tensor::empty({3, 0})).shape(), (Shape{3, 0}));
}

TEST(Activation, RefusesOtherDtypes) {
  expect_error(ErrorKind::InvalidArgument, "[silu] expected f32 x, got f16 [2]",
               [] { silu(Tensor::empty({2}, DType::F16)); });
  expect_error(ErrorKind::InvalidArgument, "[gelu] expected f32 x, got absent", [] { gelu({}); });
  expect_error(ErrorKind::InvalidArgument, "[geglu] expected an even last extent, got 3", [] {
    geglu(Tensor::empty({2, 3}));
  });
  expect_error(ErrorKind::InvalidArgument, "[softmax] expected x with at least 1 axes",
               [] { softmax(Tensor::empty(Shape{})); });
}

TEST(Geglu, IsTheFirstHalfTimesGeluOfTheSecond) {
  for_each_instruction_set([] {
    for (int64_t D : {1, 3, 8, 37}) {
      const Tensor x = random_tensor({2, 5, 2 * D}, static_cast<unsigned>(D), 2);
      const std::vector<double> v = doubles(x);
      std::vector<double> expected;
      for (size_t row = 0; row < 10; ++row) {
        for (size_t i = 0; i < static_cast<size_t>(D); ++i) {
          const double* r = &v[row * 2 * static_cast<size_t>(D)];
          expected.push_back(r[i] * exact(Activation::Gelu, r[static_cast<size_t>(D) + i]));
        }
      }
      const Tensor y = geglu(x);
      EXPECT_EQ(y.shape(), (Shape{2, 5, D}));
      expect_close(y, expected, 16 * kEpsilon, 16 * kEpsilon);
    }
  });
}

std::vector<double> exact_softmax(const Tensor& x) {
  std::vector<double> v = doubles(x);
  const auto D = static_cast<size_t>(x.dim(-1));
  for (size_t row = 0; row < v.size() / D; ++row) {
    double sum = 0, max = *std::max_element(&v[row * D], &v[row * D] + D);
    for (size_t i = 0; i < D; ++i) sum += v[row * D + i] = std::exp(v[row * D + i] - max);
    for (size_t i = 0; i < D; ++i) v[row * D + i] /= sum;
  }
  return v;
}

TEST(Softmax, MatchesTheFormula) {
  for_each_instruction_set([] {
    for (int64_t D : {1, 2, 7, 8, 77, 1023, 5000}) {
      // A shift of the difference x - max by its rounding error moves the result by the same relative amount.
      const Tensor x = random_tensor({3, D}, static_cast<unsigned>(D), 5, 10);
      expect_close(softmax(x), exact_softmax(x), 0x1p-140, 64 * kEpsilon);
    }
  });
}

TEST(Softmax, MaskedAndHugeValues) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> x(3 * 11, -inf);
  x[4] = 3e38f;
  x[5] = 3e38f;
  x[2 * 11 + 3] = nan;
  x[2 * 11 + 4] = 1;
  std::vector<double> expected(33, 0.0);
  expected[4] = expected[5] = 0.5;
  for (size_t i = 11; i < 33; ++i) expected[i] = static_cast<double>(nan);
  for_each_instruction_set([&] { expect_close(softmax(Tensor::from(Shape{3, 11}, x)), expected, 0, 0); });
}

}  // namespace
}  // namespace sinopia
