#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "tests/instruction_sets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/backend/math_test.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "sinopia/backend/cpu/math-inl.h"

#ifndef SINOPIA_TESTS_BACKEND_MATH_FUNCTION
#define SINOPIA_TESTS_BACKEND_MATH_FUNCTION
namespace sinopia {
enum class MathFunction { Exp, Sigmoid, Tanh, Erf };
}
#endif

HWY_BEFORE_NAMESPACE();
namespace sinopia {
namespace HWY_NAMESPACE {

void Evaluate(MathFunction function, const float* x, float* y, size_t n) {
  const hn::ScalableTag<float> d;
  for (size_t i = 0; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) {
    const auto v = hn::LoadU(d, x + i);
    const auto r = function == MathFunction::Exp       ? Exp(d, v)
                   : function == MathFunction::Sigmoid ? Sigmoid(d, v)
                   : function == MathFunction::Tanh    ? Tanh(d, v)
                                                       : Erf(d, v);
    hn::StoreU(r, d, y + i);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sinopia
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinopia {

HWY_EXPORT(Evaluate);

namespace {

using testing::for_each_instruction_set;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr size_t kMaxLanes = 16;  // of AVX-512

// Every `step`-th float from -inf to inf, in a multiple of the vector size.
std::vector<float> sweep(uint32_t step) {
  std::vector<float> result;
  for (uint32_t sign : {0u, 0x80000000u}) {
    for (uint64_t bits = 0; bits <= 0x7f800000u; bits += step) {
      result.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits) | sign));
    }
    result.push_back(std::bit_cast<float>(0x7f800000u | sign));
  }
  while (result.size() % kMaxLanes) result.push_back(0.25f);
  return result;
}

// Distance in units of the last place of the f32 nearest to the true value.
double ulps(float got, double expected) {
  if (std::isnan(expected)) return std::isnan(got) ? 0 : 1e30;
  const float nearest = static_cast<float>(expected);
  if (std::isinf(nearest)) return got == nearest ? 0 : 1e30;
  const double spacing =
      std::max(std::ldexp(1.0, std::ilogb(nearest == 0 ? 1e-45f : nearest) - 23), 0x1p-149);
  return std::abs(static_cast<double>(got) - expected) / spacing;
}

void expect_within(MathFunction function, double (*reference)(double), double limit) {
  const std::vector<float> x = sweep(1237);
  std::vector<float> y(x.size());
  for_each_instruction_set([&] {
    HWY_DYNAMIC_DISPATCH(Evaluate)(function, x.data(), y.data(), x.size());
    double worst = 0;
    float where = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double u = ulps(y[i], reference(static_cast<double>(x[i])));
      if (!(u <= worst)) worst = u, where = x[i];
    }
    EXPECT_LE(worst, limit) << "at " << where;
  });
}

TEST(Math, ExpIsWithinOneUlp) {
  expect_within(
      MathFunction::Exp, [](double x) { return std::exp(x); }, 1.0);
}
TEST(Math, SigmoidIsWithinThreeUlp) {
  expect_within(
      MathFunction::Sigmoid,
      [](double x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); }, 3.0);
}
TEST(Math, TanhIsWithinThreeUlp) {
  expect_within(
      MathFunction::Tanh, [](double x) { return std::tanh(x); }, 3.0);
}
TEST(Math, ErfIsWithinThreeUlp) {
  expect_within(
      MathFunction::Erf, [](double x) { return std::erf(x); }, 3.0);
}

TEST(Math, NaNStaysAndLimitsAreReached) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> x = {nan, -nan, kInfinity, -kInfinity, 88.72283f, 88.7229f, -103.97f, -104.1f};
  struct Case {
    MathFunction function;
    float at_infinity, at_minus_infinity;
  };
  for_each_instruction_set([&] {
    for (const Case& c : {Case{MathFunction::Exp, kInfinity, 0}, Case{MathFunction::Sigmoid, 1, 0},
                          Case{MathFunction::Tanh, 1, -1}, Case{MathFunction::Erf, 1, -1}}) {
      std::vector<float> padded(kMaxLanes, 0.0f), y(kMaxLanes);
      std::copy(x.begin(), x.end(), padded.begin());
      HWY_DYNAMIC_DISPATCH(Evaluate)(c.function, padded.data(), y.data(), padded.size());
      EXPECT_TRUE(std::isnan(y[0]) && std::isnan(y[1]));
      EXPECT_EQ(y[2], c.at_infinity);
      EXPECT_EQ(y[3], c.at_minus_infinity);
      if (c.function == MathFunction::Exp) {
        EXPECT_TRUE(std::isfinite(y[4]));
        EXPECT_EQ(y[5], kInfinity);
        EXPECT_EQ(y[6], 0x1p-149f);
        EXPECT_EQ(y[7], 0.0f);
      }
    }
  });
}

}  // namespace
}  // namespace sinopia
#endif  // HWY_ONCE
