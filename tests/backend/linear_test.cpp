#include "tests/backend/product_reference.h"

namespace sinopia {
namespace {

using namespace testing;

std::vector<Sum> reference_linear(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& add) {
  const int64_t O = w.dim(0), I = w.dim(1), M = O > 0 && I > 0 ? x.numel() / I : 0;
  const auto xs = doubles(x), ws = doubles(w), biases = doubles(bias), adds = doubles(add);
  std::vector<Sum> y(M * O);
  for (int64_t m = 0; m < M; ++m) {
    for (int64_t o = 0; o < O; ++o) {
      Sum& sum = y[m * O + o];
      for (int64_t i = 0; i < I; ++i) sum.add(xs[m * I + i] * ws[o * I + i]);
      if (bias) sum.add(biases[o]);
      if (add) sum.add(adds[m * O + o]);
    }
  }
  return y;
}

Tensor run_linear(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& add,
                  Activation activation) {
  Tensor y = Tensor::empty({x.dim(0), w.dim(0)});
  cpu_kernels().fill(y, std::nanf(""));
  cpu_kernels().linear(x, w, bias, add, activation, y);
  return y;
}

void check_linear(Random& random, int64_t M, int64_t O, int64_t I, DType dtype, bool bias, bool add,
                  Activation activation) {
  SCOPED_TRACE(fmt::format("M={} O={} I={} {} bias={} add={} activation={}", M, O, I, to_string(dtype), bias,
                           add, static_cast<int>(activation)));
  const Tensor x = random.normal({M, I});
  const Tensor w = random.normal({O, I}, 1 / std::sqrt(static_cast<float>(I)), dtype);
  const Tensor b = bias ? random.normal({O}, 1, dtype) : Tensor();
  const Tensor a = add ? random.normal({M, O}) : Tensor();
  expect_products_near(run_linear(x, w, b, a, activation), reference_linear(x, w, b, a), activation);
}

TEST(Linear, MatchesDoubleForAnySize) {
  for_each_instruction_set([] {
    Random random(1);
    const int64_t sizes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 33, 97};
    for (int i = 0; i < 120; ++i) {
      const auto pick = [&] { return sizes[random.integer(0, std::size(sizes) - 1)]; };
      check_linear(random, pick(), pick(), pick(), kWeightTypes[i % 3], random.integer(0, 1),
                   random.integer(0, 1), kActivations[random.integer(0, 7)]);
    }
  });
}

TEST(Linear, MatchesDoubleAcrossBlocksOfEveryAxis) {
  for_each_instruction_set([] {
    Random random(2);
    for (DType dtype : kWeightTypes) {
      check_linear(random, 131, 77, 1283, dtype, true, true, Activation::Silu);
      check_linear(random, 301, 50, 321, dtype, true, false, Activation::None);
      check_linear(random, 2, 523, 1280, dtype, true, false, Activation::Silu);
      check_linear(random, 77, 131, 769, dtype, true, true, Activation::QuickGelu);
      check_linear(random, 1, 40, 5000, dtype, false, false, Activation::None);
      check_linear(random, 259, 4, 645, dtype, true, true, Activation::None);
    }
  });
}

TEST(Linear, EveryEpilogue) {
  Random random(3);
  for (Activation activation : kActivations) {
    for (int i = 0; i < 4; ++i) {
      check_linear(random, 19, 37, 70, DType::F32, i & 1, i & 2, activation);
      check_linear(random, 2, 37, 70, DType::F16, i & 1, i & 2, activation);
      check_linear(random, 40, 3, 70, DType::BF16, i & 1, i & 2, activation);
    }
  }
}

TEST(Linear, SameBitsOnAnyThreads) {
  Random random(4);
  for (const auto [M, O, I] :
       {std::array<int64_t, 3>{513, 130, 700}, {2, 1000, 640}, {77, 300, 768}, {400, 4, 333}}) {
    const Tensor x = random.normal({M, I}), w = random.normal({O, I}, 0.1f, DType::F16),
                 b = random.normal({O});
    expect_same_bits_on_any_threads([&] { return run_linear(x, w, b, {}, Activation::Gelu); });
  }
}

TEST(Linear, KeepsRareValuesOfHalfWeights) {
  for_each_instruction_set([] {
    const Tensor w =
        Tensor::from<Half>({3, 2}, std::vector<Half>{{0x0001}, {0}, {0x7c00}, {0}, {0x7bff}, {0}});
    const Tensor x = Tensor::from<float>({1, 2}, std::vector<float>{1, 0});
    const Tensor y = run_linear(x, w, {}, {}, Activation::None);
    EXPECT_EQ(y.data<float>()[0], 0x1p-24f);
    EXPECT_EQ(y.data<float>()[1], INFINITY);
    EXPECT_EQ(y.data<float>()[2], 65504.0f);
  });
}

TEST(Linear, EmptyAxes) {
  Random random(5);
  const Tensor w = random.normal({3, 4}), b = random.normal({3});
  EXPECT_EQ(run_linear(random.normal({0, 4}), w, b, {}, Activation::None).numel(), 0);
  const Tensor y = run_linear(random.normal({2, 0}), random.normal({3, 0}), b, {}, Activation::None);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(y.data<float>()[i], b.data<float>()[i % 3]);
}

}  // namespace
}  // namespace sinopia
