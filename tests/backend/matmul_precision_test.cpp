#include "sinopia/backend/matmul_precision.h"

#include <gmock/gmock.h>

#include "sinopia/backend/cpu/onednn.h"
#include "sinopia/backend/cpu/rounded_gemm.h"
#include "tests/backend/product_reference.h"
#include "tests/kind_of.h"

namespace sinopia {
namespace {

using namespace testing;

/// Types that this build and machine can hold rounded factors in.
std::vector<DType> held_types() {
  try {
    const float one = 1;
    onednn_product(DType::F32, &one, 1, 1, 1, 1);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::Unsupported);
    return {};
  }
  std::vector<DType> types{DType::F32, DType::I8};
  if (onednn_needs(MatmulPrecision::BF16).empty()) types.push_back(DType::BF16);
  return types;
}

class RoundedProduct : public ::testing::Test {
 protected:
  void SetUp() override {
    if (held_.empty()) GTEST_SKIP() << onednn_needs(MatmulPrecision::BF16);
  }
  const std::vector<DType> held_ = held_types();
};

struct Factors {
  Tensor x, w, bias, add;  // bias and add in f32, or absent
  int64_t rows_per_add = 1;
  Activation activation = Activation::None;
};

Tensor run_rounded(const Factors& f, DType held) {
  GemmProblem p;
  p.m = f.x.dim(0);
  p.n = f.w.dim(0);
  p.k = f.w.dim(1);
  p.x = f.x.data<float>();
  p.w = f.w.raw();
  p.w_dtype = f.w.dtype();
  p.bias = f.bias ? f.bias.data<float>() : nullptr;
  p.add = f.add ? f.add.data<float>() : nullptr;
  p.rows_per_add = f.rows_per_add;
  p.activation = f.activation;
  Tensor y = Tensor::empty({p.m, p.n});
  cpu_kernels().fill(y, std::nanf(""));
  p.y = y.data<float>();
  rounded_gemm(f.x, f.w, p, held);
  return y;
}

std::vector<double> rounded_doubles(const Tensor& x) {
  std::vector<double> out = doubles(x);
  for (double& v : out) v = to_float(to_bfloat16(static_cast<float>(v)));
  return out;
}

std::vector<Sum> reference(const Factors& f, std::vector<double> (*factor)(const Tensor&)) {
  const int64_t M = f.x.dim(0), N = f.w.dim(0), K = f.w.dim(1);
  const auto xs = factor(f.x), ws = factor(f.w);
  const auto biases = doubles(f.bias), adds = doubles(f.add);
  std::vector<Sum> y(M * N);
  for (int64_t m = 0; m < M; ++m) {
    for (int64_t n = 0; n < N; ++n) {
      Sum& sum = y[m * N + n];
      for (int64_t k = 0; k < K; ++k) sum.add(xs[m * K + k] * ws[n * K + k]);
      if (f.bias) sum.add(biases[n]);
      if (f.add) sum.add(adds[m / f.rows_per_add * N + n]);
    }
  }
  return y;
}

float w_steps() { return onednn_needs(MatmulPrecision::Int8).empty() ? 127 : 63; }

/// Half a step of each row of [rows,K].
std::vector<double> half_steps(const std::vector<double>& x, int64_t rows, double steps) {
  const auto K = static_cast<int64_t>(x.size()) / rows;
  std::vector<double> out(rows);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t k = 0; k < K; ++k) out[r] = std::max(out[r], std::abs(x[r * K + k]) / (2 * steps));
  }
  return out;
}

/// How far rounding the factors may take each sum. Of bfloat16, a factor keeps 8 significant bits, and is off
/// by 2^-8 of itself at most; of steps, by half a step.
std::vector<double> rounding_bounds(const Factors& f, const std::vector<Sum>& exact, DType held) {
  std::vector<double> out;
  if (held != DType::I8) {
    for (const Sum& sum : exact) out.push_back((0x1p-7 + 0x1p-16) * sum.magnitude);
    return out;
  }
  const int64_t M = f.x.dim(0), N = f.w.dim(0), K = f.w.dim(1);
  const auto xs = doubles(f.x), ws = doubles(f.w);
  const auto x_half = half_steps(xs, M, 127), w_half = half_steps(ws, N, w_steps());
  for (int64_t m = 0; m < M; ++m) {
    for (int64_t n = 0; n < N; ++n) {
      double sum = 0;
      for (int64_t k = 0; k < K; ++k)
        sum += std::abs(xs[m * K + k]) * w_half[n] + (std::abs(ws[n * K + k]) + w_half[n]) * x_half[m];
      out.push_back(sum * (1 + 1e-5));  // steps are rounded to f32 before they are counted
    }
  }
  return out;
}

void check(const Factors& f, DType held) {
  SCOPED_TRACE(fmt::format("x {} w {} {} held in {}, activation {}", to_string(f.x.shape()),
                           to_string(f.w.shape()), to_string(f.w.dtype()), to_string(held),
                           static_cast<int>(f.activation)));
  const Tensor y = run_rounded(f, held);
  // Products of bfloat16 are exact in f32, so that only the sums differ from those of the rounded factors.
  if (held != DType::I8) expect_products_near(y, reference(f, rounded_doubles), f.activation);
  const auto exact = reference(f, doubles);
  const auto bounds = rounding_bounds(f, exact, held);
  constexpr double kSteepest = 1.2;
  for (int64_t i = 0; i < y.numel(); ++i) {
    const double value = reference_activation(f.activation, exact[i].value);
    ASSERT_NEAR(y.data<float>()[i], value, kSteepest * (bounds[i] + 4e-7 * exact[i].magnitude)) << i;
  }
}

TEST_F(RoundedProduct, MatchesDoubleForAnySize) {
  for (DType held : held_) {
    Random random(1);
    const int64_t sizes[] = {1, 2, 5, 9, 16, 31, 33, 97, 255, 257, 321, 330};
    for (int i = 0; i < 60; ++i) {
      const auto pick = [&] { return sizes[random.integer(0, std::size(sizes) - 1)]; };
      const int64_t M = pick(), N = pick(), K = pick();
      Factors f{random.normal({M, K}),
                random.normal({N, K}, 1 / std::sqrt(static_cast<float>(K)), kWeightTypes[i % 3]),
                {},
                {}};
      if (random.integer(0, 1)) f.bias = random.normal({N});
      if (random.integer(0, 1)) f.add = random.normal({M, N});
      f.activation = kActivations[random.integer(0, 7)];
      check(f, held);
    }
  }
}

TEST_F(RoundedProduct, AddsOneRowToAllPixelsOfAnImage) {
  for (DType held : held_) {
    Random random(2);
    Factors f{random.normal({3 * 101, 70}), random.normal({37, 70}), random.normal({37}),
              random.normal({3, 37})};
    f.rows_per_add = 101;
    f.activation = Activation::Silu;
    check(f, held);
  }
}

TEST_F(RoundedProduct, SameBitsOnAnyThreads) {
  for (DType held : held_) {
    Random random(3);
    const Factors f{
        random.normal({700, 333}), random.normal({650, 333}, 1, DType::F16), random.normal({650}), {}};
    expect_same_bits_on_any_threads([&] { return run_rounded(f, held); });
  }
}

TEST_F(RoundedProduct, QuantisedWeightsAreRoundedAsWhatTheyStandFor) {
  for (DType held : held_) {
    Random random(4);
    Factors f{random.normal({40, 96}), random.normal({50, 96}), {}, {}};
    Tensor quantised = Tensor::empty({50, 96}, DType::Q8_0), wide = Tensor::empty({50, 96});
    cpu_kernels().convert(f.w, quantised);
    cpu_kernels().convert(quantised, wide);
    f.w = wide;
    const Tensor expected = run_rounded(f, held);
    f.w = quantised;
    EXPECT_EQ(run_rounded(f, held).to_vector<float>(), expected.to_vector<float>());
  }
}

TEST_F(RoundedProduct, SumsOfWholeStepsAreExact) {
  Random random(6);
  Tensor x = Tensor::empty({70, 900}), w = Tensor::empty({90, 900});
  for (Tensor* t : {&x, &w}) {
    for (int64_t i = 0; i < t->numel(); ++i) t->data<float>()[i] = random.integer(0, 3) ? 2.5f : -2.5f;
  }
  const Factors f{x, w, {}, {}};
  for (DType held : held_)
    expect_products_near(run_rounded(f, held), reference(f, doubles), Activation::None);
}

TEST_F(RoundedProduct, WhatIsNotFiniteStaysSo) {
  Random random(7);
  Factors f{random.normal({20, 45}), random.normal({30, 45}), {}, {}};
  f.x.data<float>()[3 * 45 + 44] = INFINITY;
  f.x.data<float>()[5 * 45] = NAN;
  std::fill_n(f.x.data<float>() + 7 * 45, 45, 0.0f);
  for (DType held : held_) {
    const Tensor y = run_rounded(f, held);
    for (int64_t i = 0; i < y.numel(); ++i) {
      const int64_t row = i / 30;
      EXPECT_EQ(std::isfinite(y.data<float>()[i]), row != 3 && row != 5) << i;
      if (row == 7) {
        EXPECT_EQ(y.data<float>()[i], 0);
      }
    }
  }
}

class OfferedPrecision : public ::testing::TestWithParam<MatmulPrecision> {};

TEST_P(OfferedPrecision, IsTakenOrSaysWhatItNeeds) {
  const MatmulPrecision precision = GetParam();
  const std::string needs(onednn_needs(precision));
  if (!needs.empty()) {
    EXPECT_THAT(needs, ::testing::AnyOf(::testing::HasSubstr("SINOPIA_ONEDNN"), ::testing::HasSubstr("AMX")));
    try {
      set_matmul_precision(precision);
      ADD_FAILURE() << "was taken";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::Unsupported);
      EXPECT_THAT(error.what(), ::testing::HasSubstr(needs));
    }
    EXPECT_EQ(matmul_precision(), MatmulPrecision::F32);
    return;
  }
  const DType held = precision == MatmulPrecision::BF16 ? DType::BF16 : DType::I8;
  Random random(5);
  const Factors f{random.normal({64, 128}), random.normal({96, 128}), {}, {}};
  const auto linear = [&] {
    Tensor y = Tensor::empty({64, 96});
    cpu_kernels().linear(f.x, f.w, {}, {}, Activation::None, y);
    return y.to_vector<float>();
  };
  const int64_t before = rounded_matmuls();
  linear();
  EXPECT_EQ(rounded_matmuls(), before);
  set_matmul_precision(precision);
  EXPECT_EQ(linear(), run_rounded(f, held).to_vector<float>());
  set_matmul_precision(MatmulPrecision::F32);
  EXPECT_EQ(rounded_matmuls(), before + 1);
}

INSTANTIATE_TEST_SUITE_P(All, OfferedPrecision,
                         ::testing::Values(MatmulPrecision::BF16, MatmulPrecision::Int8));

}  // namespace
}  // namespace sinopia
