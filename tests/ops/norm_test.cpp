#include "sinopia/ops/norm.h"

#include <algorithm>

#include "sinopia/ops/activation.h"
#include "tests/instruction_sets.h"
#include "tests/reference.h"

namespace sinopia {
namespace {

using namespace testing;

constexpr float kEps = 1e-5f;
constexpr DType kWeightTypes[] = {DType::F32, DType::F16, DType::BF16};

double parameter(const std::vector<double>& values, size_t i, double otherwise) {
  return values.empty() ? otherwise : values[i];
}

std::vector<double> optional_doubles(const Tensor& w) { return w ? doubles(w) : std::vector<double>(); }

std::vector<double> exact_layer_norm(const Tensor& x, const Tensor& w, const Tensor& b) {
  std::vector<double> v = doubles(x);
  const std::vector<double> weight = optional_doubles(w), bias = optional_doubles(b);
  const auto D = static_cast<size_t>(x.dim(-1));
  for (size_t row = 0; row < v.size() / D; ++row) {
    double mean = 0, variance = 0;
    for (size_t i = 0; i < D; ++i) mean += v[row * D + i] / static_cast<double>(D);
    for (size_t i = 0; i < D; ++i) variance += std::pow(v[row * D + i] - mean, 2) / static_cast<double>(D);
    for (size_t i = 0; i < D; ++i) {
      double& e = v[row * D + i];
      e = (e - mean) / std::sqrt(variance + static_cast<double>(kEps)) * parameter(weight, i, 1) +
          parameter(bias, i, 0);
    }
  }
  return v;
}

std::vector<double> exact_group_norm(const Tensor& x, size_t groups, const Tensor& w, const Tensor& b) {
  std::vector<double> v = doubles(x);
  const std::vector<double> weight = optional_doubles(w), bias = optional_doubles(b);
  const auto N = static_cast<size_t>(x.dim(0)), C = static_cast<size_t>(x.dim(-1)), P = v.size() / (N * C);
  const size_t width = C / groups;
  const auto count = static_cast<double>(P * width);
  for (size_t n = 0; n < N; ++n) {
    for (size_t g = 0; g < groups; ++g) {
      double mean = 0, variance = 0;
      for (size_t p = 0; p < P; ++p) {
        for (size_t c = g * width; c < (g + 1) * width; ++c) mean += v[(n * P + p) * C + c] / count;
      }
      for (size_t p = 0; p < P; ++p) {
        for (size_t c = g * width; c < (g + 1) * width; ++c)
          variance += std::pow(v[(n * P + p) * C + c] - mean, 2) / count;
      }
      for (size_t p = 0; p < P; ++p) {
        for (size_t c = g * width; c < (g + 1) * width; ++c) {
          double& e = v[(n * P + p) * C + c];
          e = (e - mean) / std::sqrt(variance + static_cast<double>(kEps)) * parameter(weight, c, 1) +
              parameter(bias, c, 0);
        }
      }
    }
  }
  return v;
}

TEST(LayerNorm, MatchesTheFormula) {
  for_each_instruction_set([] {
    for (int64_t D : {1, 2, 7, 8, 33, 320, 1029, 4097}) {
      const auto seed = static_cast<unsigned>(D);
      const Tensor x = random_tensor({2, 3, D}, seed, 2, 1);
      for (DType dtype : kWeightTypes) {
        const Tensor w = stored_as(random_tensor({D}, seed + 1), dtype),
                     b = stored_as(random_tensor({D}, seed + 2), dtype);
        for (const auto& [weight, bias] :
             {std::pair{w, b}, {w, Tensor()}, {Tensor(), b}, {Tensor(), Tensor()}}) {
          expect_close(layer_norm(x, weight, bias, kEps), exact_layer_norm(x, weight, bias), 32 * kEpsilon,
                       16 * kEpsilon);
        }
      }
    }
  });
}

TEST(LayerNorm, StaysExactBesideALargeMean) {
  const Tensor x = random_tensor({3, 1280}, 1, 1, 1e4f);
  for_each_instruction_set([&] {
    expect_close(layer_norm(x, {}, {}, kEps), exact_layer_norm(x, {}, {}), 16 * kEpsilon, 16 * kEpsilon);
  });
}

TEST(RmsNorm, MatchesTheFormula) {
  for_each_instruction_set([] {
    for (int64_t D : {1, 5, 8, 64, 1030, 4096}) {
      const auto seed = static_cast<unsigned>(D);
      const Tensor x = random_tensor({7, D}, seed, 3, 0.5f);
      for (DType dtype : kWeightTypes) {
        const Tensor w = stored_as(random_tensor({D}, seed + 1), dtype);
        for (const Tensor& weight : {w, Tensor()}) {
          const std::vector<double> scale = optional_doubles(weight);
          std::vector<double> v = doubles(x);
          for (size_t row = 0; row < 7; ++row) {
            double* r = &v[row * static_cast<size_t>(D)];
            double squares = 0;
            for (int64_t i = 0; i < D; ++i) squares += r[i] * r[i];
            const double rms = std::sqrt(squares / static_cast<double>(D) + static_cast<double>(kEps));
            for (int64_t i = 0; i < D; ++i) r[i] *= parameter(scale, static_cast<size_t>(i), 1) / rms;
          }
          expect_close(rms_norm(x, weight, kEps), v, 0, 8 * kEpsilon);
        }
      }
    }
  });
}

TEST(GroupNorm, MatchesTheFormula) {
  struct Case {
    Shape x;
    int groups;
  };
  for_each_instruction_set([] {
    unsigned seed = 1;
    for (const Case& c :
         {Case{{2, 3, 5, 8}, 2}, Case{{1, 7, 7, 30}, 3}, Case{{3, 6}, 3}, Case{{1, 1, 1, 4}, 1},
          Case{{2, 257, 32}, 32}, Case{{1, 16, 17, 20}, 5}, Case{{2, 23, 23, 64}, 32},
          Case{{1, 3, 2, 2, 2, 12}, 4}, Case{{1, 513, 7}, 7}, Case{{1, 1030, 3}, 1}}) {
      const Tensor x = random_tensor(c.x, seed++, 2, 1);
      const int64_t C = c.x.dim(-1);
      for (DType dtype : kWeightTypes) {
        const Tensor w = stored_as(random_tensor({C}, seed++), dtype),
                     b = stored_as(random_tensor({C}, seed++), dtype);
        for (const auto& [weight, bias] :
             {std::pair{w, b}, {w, Tensor()}, {Tensor(), b}, {Tensor(), Tensor()}}) {
          expect_close(group_norm(x, c.groups, weight, bias, kEps),
                       exact_group_norm(x, static_cast<size_t>(c.groups), weight, bias), 32 * kEpsilon,
                       16 * kEpsilon);
        }
      }
    }
  });
}

TEST(GroupNorm, FusesEveryActivation) {
  const Tensor x = random_tensor({2, 9, 31, 24}, 1, 2), w = random_tensor({24}, 2),
               b = random_tensor({24}, 3);
  for_each_instruction_set([&] {
    const Tensor plain = group_norm(x, 8, w, b, kEps);
    for (Activation activation :
         {Activation::None, Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu,
          Activation::Relu, Activation::Tanh, Activation::Sigmoid}) {
      EXPECT_TRUE(same_bits(group_norm(x, 8, w, b, kEps, activation), activate(plain, activation)));
    }
  });
}

// Each group has its own mean, deviation, and outliers among the first pixels.
Tensor hard_groups(int64_t P, int64_t C, int64_t groups, float mean) {
  Tensor x = random_tensor({1, P, C}, 9);
  for (int64_t i = 0; i < x.numel(); ++i) {
    const auto g = static_cast<float>(i % C / (C / groups));
    float& v = x.data<float>()[i];
    v = v * (1 + g) + mean * (g - 1);
    if (i < C) v += 300;
  }
  return x;
}

TEST(GroupNorm, MomentsStayExactInLargeGroups) {
  const Tensor x = hard_groups(200003, 8, 2, 0);
  for_each_instruction_set([&] {
    expect_close(group_norm(x, 2, {}, {}, kEps), exact_group_norm(x, 2, {}, {}), 4 * kEpsilon, 12 * kEpsilon);
  });
}

TEST(GroupNorm, StaysExactBesideALargeMean) {
  const Tensor x = hard_groups(3001, 12, 3, 1e4f);
  for_each_instruction_set([&] {
    // The outliers of one block make up the variance: it is one f32 sum of 256 numbers, good to 16 roundings.
    expect_close(group_norm(x, 3, {}, {}, kEps), exact_group_norm(x, 3, {}, {}), 16 * kEpsilon,
                 16 * kEpsilon);
  });
}

TEST(GroupNorm, ABatchEqualsItsPictures) {
  const Tensor x = random_tensor({3, 17, 19, 20}, 4), w = random_tensor({20}, 5);
  const Tensor y = group_norm(x, 4, w, {}, kEps, Activation::Silu);
  for (int64_t n = 0; n < 3; ++n) {
    EXPECT_TRUE(
        same_bits(group_norm(x.slice(n, n + 1), 4, w, {}, kEps, Activation::Silu), y.slice(n, n + 1)));
  }
}

TEST(Norms, SameBitsForAnyThreadCount) {
  const Tensor x = random_tensor({2, 47, 61, 32}, 6), w = random_tensor({32}, 7), b = random_tensor({32}, 8);
  expect_same_for_any_thread_count([&] { return group_norm(x, 8, w, b, kEps, Activation::Silu); });
  expect_same_for_any_thread_count([&] { return layer_norm(x, w, b, kEps); });
  expect_same_for_any_thread_count([&] { return rms_norm(x, w, kEps); });
}

TEST(Norms, Empty) {
  EXPECT_EQ(layer_norm(Tensor::empty({0, 4}), {}, {}, kEps).numel(), 0);
  EXPECT_EQ(layer_norm(Tensor::empty({4, 0}), {}, {}, kEps).numel(), 0);
  EXPECT_EQ(rms_norm(Tensor::empty({0, 4}), {}, kEps).numel(), 0);
  EXPECT_EQ(group_norm(Tensor::empty({0, 5, 4}), 2, {}, {}, kEps).numel(), 0);
  EXPECT_EQ(group_norm(Tensor::empty({2, 0, 4}), 2, {}, {}, kEps).numel(), 0);
}

TEST(Norms, Errors) {
  const Tensor x = random_tensor({2, 3, 4}, 1), w5 = random_tensor({5}, 1), w4 = random_tensor({4}, 1);
  expect_error(ErrorKind::InvalidArgument, "[layer_norm] expected weight=[4], got [5] (x=[2,3,4])",
               [&] { layer_norm(x, w5, {}, kEps); });
  expect_error(ErrorKind::InvalidArgument, "[layer_norm] expected bias=[4], got [5]",
               [&] { layer_norm(x, w4, w5, kEps); });
  expect_error(ErrorKind::InvalidArgument, "[rms_norm] expected weight in f32, f16 or bf16, got i32 [4]",
               [&] { rms_norm(x, Tensor::empty({4}, DType::I32), kEps); });
  expect_error(ErrorKind::InvalidArgument, "[group_norm] expected groups that divide C=4, got 3",
               [&] { group_norm(x, 3, {}, {}, kEps); });
  expect_error(ErrorKind::InvalidArgument, "[group_norm] expected groups that divide C=4, got 0",
               [&] { group_norm(x, 0, {}, {}, kEps); });
  expect_error(ErrorKind::InvalidArgument, "[group_norm] expected x with at least 2 axes",
               [&] { group_norm(w4, 2, {}, {}, kEps); });
  expect_error(ErrorKind::InvalidArgument, "[group_norm] expected f32 x, got f16",
               [&] { group_norm(stored_as(x, DType::F16), 2, {}, {}, kEps); });
}

}  // namespace
}  // namespace sinopia
