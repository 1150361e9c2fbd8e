#include "sinopia/ops/elementwise.h"

#include <limits>

#include "sinopia/backend/kernels.h"
#include "tests/instruction_sets.h"
#include "tests/reference.h"

namespace sinopia {
namespace {

using namespace testing;

// The element of a broadcast operand that belongs to element `index` of a result of shape y.
double broadcast_at(const std::vector<double>& values, const Shape& shape, const Shape& y, int64_t index) {
  int64_t at = 0, step = 1;
  for (int back = 1; back <= y.rank(); ++back) {
    const int64_t i = index % y.dim(-back);
    index /= y.dim(-back);
    if (back > shape.rank()) continue;
    if (shape.dim(-back) > 1) at += i * step;
    step *= shape.dim(-back);
  }
  return values[static_cast<size_t>(at)];
}

struct BinaryCase {
  Shape a, b, y;
};

const BinaryCase kBroadcasts[] = {
    {{}, {}, {}},
    {{7}, {7}, {7}},
    {{2, 3, 5, 7}, {2, 3, 5, 7}, {2, 3, 5, 7}},
    {{2, 3, 17}, {}, {2, 3, 17}},
    {{1}, {2, 3, 17}, {2, 3, 17}},
    {{2, 3, 17}, {17}, {2, 3, 17}},
    {{2, 3, 4, 19}, {2, 1, 1, 1}, {2, 3, 4, 19}},
    {{2, 3, 4, 19}, {2, 1, 1, 19}, {2, 3, 4, 19}},
    {{2, 1, 4, 1}, {3, 1, 5}, {2, 3, 4, 5}},
    {{5, 1}, {1, 6}, {5, 6}},
    {{2, 1, 3, 1, 2}, {1, 4, 1, 5, 1}, {2, 4, 3, 5, 2}},
    {{4, 1, 1}, {1, 1, 3}, {4, 1, 3}},
};

TEST(Binary, MatchesNumPyBroadcasting) {
  struct Op {
    Tensor (*run)(const Tensor&, const Tensor&);
    double (*exact)(double, double);
  };
  const Op ops[] = {
      {[](const Tensor& a, const Tensor& b) { return a + b; }, [](double a, double b) { return a + b; }},
      {[](const Tensor& a, const Tensor& b) { return a - b; }, [](double a, double b) { return a - b; }},
      {[](const Tensor& a, const Tensor& b) { return a * b; }, [](double a, double b) { return a * b; }},
      {[](const Tensor& a, const Tensor& b) { return a / b; }, [](double a, double b) { return a / b; }},
      {minimum, [](double a, double b) { return std::min(a, b); }},
      {maximum, [](double a, double b) { return std::max(a, b); }},
  };
  for_each_instruction_set([&] {
    unsigned seed = 100;
    for (const BinaryCase& c : kBroadcasts) {
      const Tensor a = random_tensor(c.a, seed++), b = random_tensor(c.b, seed++);
      const std::vector<double> va = doubles(a), vb = doubles(b);
      for (const Op& op : ops) {
        std::vector<double> expected;
        for (int64_t i = 0; i < c.y.numel(); ++i) {
          expected.push_back(op.exact(broadcast_at(va, c.a, c.y, i), broadcast_at(vb, c.b, c.y, i)));
        }
        const Tensor y = op.run(a, b);
        EXPECT_EQ(y.shape(), c.y);
        expect_close(y, expected, 0, kEpsilon);  // one rounding
      }
    }
  });
}

TEST(Binary, LargeBroadcastsAgreeAcrossPieces) {
  const Tensor x = random_tensor({2, 301, 97, 3}, 1), row = random_tensor({3}, 2),
               batch = random_tensor({2, 1, 1, 1}, 3);
  const std::vector<double> vx = doubles(x), vr = doubles(row), vb = doubles(batch);
  std::vector<double> sum(vx.size()), product(vx.size());
  for (size_t i = 0; i < vx.size(); ++i) {
    sum[i] = vx[i] + vr[i % 3];
    product[i] = vx[i] * vb[i / (301 * 97 * 3)];
  }
  expect_close(x + row, sum, 0, kEpsilon);
  expect_close(x * batch, product, 0, kEpsilon);
  expect_same_for_any_thread_count([&] { return x + row; });
  expect_same_for_any_thread_count([&] { return x * batch; });
  expect_same_for_any_thread_count([&] { return x - x; });
}

TEST(Binary, MinimumAndMaximumKeepNaN) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const double n = static_cast<double>(nan);
  const Tensor a = random_tensor({9}, 1), b = Tensor::from(Shape{9}, std::vector<float>(9, nan));
  for_each_instruction_set([&] {
    for (const Tensor& y : {minimum(a, b), minimum(b, a), maximum(a, b), maximum(b, a)}) {
      expect_close(y, std::vector<double>(9, n), 0, 0);
    }
  });
}

TEST(Binary, EmptyAndErrors) {
  EXPECT_EQ((Tensor::empty({0, 3}) + Tensor::empty({3})).shape(), (Shape{0, 3}));
  EXPECT_EQ((Tensor::empty({0, 1}) + Tensor::empty({1, 3})).shape(), (Shape{0, 3}));
  expect_error(ErrorKind::InvalidArgument, "[add] expected shapes that broadcast, got [2,3] and [2]", [] {
    Tensor::empty({2, 3}) + Tensor::empty({2});
  });
  expect_error(ErrorKind::InvalidArgument, "[add] expected shapes that broadcast, got [0] and [2]",
               [] { Tensor::empty({0}) + Tensor::empty({2}); });
  expect_error(ErrorKind::InvalidArgument, "[multiply] expected f32 b, got i32 [2]",
               [] { Tensor::empty({2}) * Tensor::empty({2}, DType::I32); });
}

TEST(Scalar, RoundsTheNumberFirstAndEachOperationOnce) {
  const Tensor x = random_tensor({3, 11}, 4);
  const double value = 0.1;
  const float f = static_cast<float>(value);
  const auto expect = [&](const Tensor& y, float (*exact)(float, float)) {
    for (int64_t i = 0; i < x.numel(); ++i) EXPECT_EQ(y.data<float>()[i], exact(x.data<float>()[i], f));
  };
  for_each_instruction_set([&] {
    expect(x + value, [](float v, float c) { return v + c; });
    expect(value + x, [](float v, float c) { return v + c; });
    expect(x - value, [](float v, float c) { return v - c; });
    expect(value - x, [](float v, float c) { return c - v; });
    expect(x * value, [](float v, float c) { return v * c; });
    expect(value * x, [](float v, float c) { return v * c; });
    expect(x / value, [](float v, float c) { return v / c; });
    expect(-x, [](float v, float) { return -v; });
  });
}

TEST(Scalar, AffineDoesNotFuse) {
  const Tensor x = random_tensor({1000}, 5);
  const float scale = 1.234567f, shift = -0.7654321f;
  for_each_instruction_set([&] {
    Tensor y = empty_like(x);
    kernels({}).affine(x, scale, shift, y);
    for (int64_t i = 0; i < x.numel(); ++i) {
      volatile float product = x.data<float>()[i] * scale;
      EXPECT_EQ(y.data<float>()[i], product + shift);
    }
  });
  expect_same_for_any_thread_count([] { return random_tensor({100, 1000}, 5) * 0.3; });
}

TEST(Scalar, NegativeZeroStays) {
  const Tensor zero = Tensor::from(Shape{1}, std::vector<float>{-0.0f});
  EXPECT_TRUE(std::signbit((zero * 2.0).data<float>()[0]));
  EXPECT_FALSE(std::signbit((-zero).data<float>()[0]));
}

TEST(Unary, MatchesTheFormula) {
  struct Case {
    Tensor (*run)(const Tensor&);
    double (*exact)(double);
    double relative;
  };
  const Case cases[] = {{exp, [](double x) { return std::exp(x); }, 2 * kEpsilon},
                        {log, [](double x) { return std::log(x); }, 2 * kEpsilon},
                        {sqrt, [](double x) { return std::sqrt(x); }, kEpsilon},
                        {abs, [](double x) { return std::abs(x); }, 0},
                        {square, [](double x) { return x * x; }, kEpsilon}};
  for_each_instruction_set([&] {
    for (const Case& c : cases) {
      for (int64_t n : {1, 7, 8, 9, 67}) {
        const Tensor x = random_tensor({n, 3}, static_cast<unsigned>(n), 5);
        std::vector<double> expected = doubles(x);
        for (double& v : expected) v = c.exact(v);  // NaN for a negative root or logarithm
        expect_close(c.run(x), expected, 0, c.relative);
      }
    }
  });
}

TEST(Clamp, LimitsAndKeepsNaN) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const Tensor x = Tensor::from(Shape{9}, std::vector<float>{-inf, -2, -1, -0.5f, 0, 0.5f, 2, inf, nan});
  for_each_instruction_set([&] {
    expect_close(clamp(x, -1, 1), {-1, -1, -1, -0.5, 0, 0.5, 1, 1, static_cast<double>(nan)}, 0, 0);
  });
  expect_error(ErrorKind::InvalidArgument, "[clamp] expected low <= high", [&] { clamp(x, 1, -1); });
  expect_error(ErrorKind::InvalidArgument, "[clamp] expected low <= high", [&] { clamp(x, nan, 1); });
}

}  // namespace
}  // namespace sinopia
