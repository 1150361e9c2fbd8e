#include <algorithm>

#include "sinopia/backend/cuda/cublaslt.h"
#include "tests/cuda/on_gpu.h"

namespace sinopia::testing {
namespace {

using Products = OnGpu;
using cuda::multiply;
using cuda::Product;

const std::vector<Activation> kActivations{Activation::None,     Activation::Silu,      Activation::Gelu,
                                           Activation::GeluTanh, Activation::QuickGelu, Activation::Relu,
                                           Activation::Tanh,     Activation::Sigmoid};

double activated(Activation activation, double x) {
  switch (activation) {
    case Activation::None:
      return x;
    case Activation::Silu:
      return x / (1 + std::exp(-x));
    case Activation::Gelu:
      return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
    case Activation::GeluTanh:
      return x / (1 + std::exp(-2 * 0.7978845608028654 * (x + 0.044715 * x * x * x)));
    case Activation::QuickGelu:
      return x / (1 + std::exp(-1.702 * x));
    case Activation::Relu:
      return x < 0 ? 0 : x;
    case Activation::Tanh:
      return std::tanh(x);
    case Activation::Sigmoid:
      return 1 / (1 + std::exp(-x));
  }
  return x;
}

// y and what it may be off by, of one element.
struct Expected {
  double value, bound;
};

void expect_within(const Tensor& got, const std::vector<Expected>& expected) {
  const std::vector<double> values = doubles(got);
  ASSERT_EQ(values.size(), expected.size());
  int failures = 0;
  for (size_t i = 0; i < values.size() && failures < 5; ++i) {
    const auto [value, bound] = expected[i];
    const bool same = std::isnan(value)   ? std::isnan(values[i])
                      : std::isinf(value) ? values[i] == value
                                          : std::abs(values[i] - value) <= bound;
    if (same) continue;
    ++failures;
    ADD_FAILURE() << "at " << i << " of " << to_string(got.shape()) << ": expected " << value << ", got "
                  << values[i] << ", off by " << std::abs(values[i] - value) / bound << " bounds of "
                  << bound;
  }
}

// The linear layer in double, of x, w, bias and add on the CPU in f32 as the GPU has them. The bounds: one
// rounding of y, f32 sums, the activation's own few ulps, and `of_bias` roundings of the bias.
std::vector<Expected> linear_reference(const Tensor& x, const Tensor& w, const Tensor& bias,
                                       const Tensor& add, Activation activation, DType dtype,
                                       double of_bias = 0) {
  const int64_t O = w.dim(0), I = w.dim(1), M = I > 0 ? x.numel() / I : add.numel() / O;
  const double epsilon = epsilon_of(dtype), tiny = dtype == DType::F16 ? 0x1p-25 : 1e-37;
  std::vector<Expected> result;
  for (int64_t m = 0; m < M; ++m)
    for (int64_t o = 0; o < O; ++o) {
      double sum = 0, magnitude = 0;
      for (int64_t i = 0; i < I; ++i) {
        const double product =
            static_cast<double>(x.data<float>()[m * I + i]) * static_cast<double>(w.data<float>()[o * I + i]);
        sum += product;
        magnitude += std::abs(product);
      }
      const double b = bias ? static_cast<double>(bias.data<float>()[o]) : 0;
      const double a = add ? static_cast<double>(add.data<float>()[m * O + o]) : 0;
      const double y = activated(activation, sum + b + a);
      const double error = static_cast<double>(I + 4) * kEpsilon * (magnitude + std::abs(a) + std::abs(b)) +
                           of_bias * epsilon * std::abs(b);
      const double of_activation = activation == Activation::None ? 0 : 16 * kEpsilon;
      result.push_back({y, 1.2 * error + (1.001 * epsilon + of_activation) * std::abs(y) + tiny});
    }
  return result;
}

TEST_F(Products, LinearOfEveryKindOfWeightsAndBias) {
  for (const DType dtype : kFloats)
    for (const DType w_dtype : kFloats)
      for (const DType bias_dtype : kFloats)
        for (const auto& [M, O, I] : {std::array{5, 24, 17}, std::array{3, 13, 96}}) {
          SCOPED_TRACE(::testing::Message() << to_string(dtype) << " x, " << to_string(w_dtype) << " w, "
                                            << to_string(bias_dtype) << " bias, O " << O);
          const Tensor x = rounded_to(random_tensor({1, M, I}, 1), dtype);
          const Tensor w = rounded_to(random_tensor({O, I}, 2), w_dtype);
          const Tensor bias = rounded_to(random_tensor({O}, 3), bias_dtype);
          const Tensor add = rounded_to(random_tensor({1, M, O}, 4), dtype);
          Tensor y = empty({1, M, O}, dtype);
          gpu().linear(there(x, dtype), there(w, w_dtype), there(bias, bias_dtype), there(add, dtype),
                       Activation::None, y);
          const double of_bias = bias_dtype == dtype || dtype == DType::F32 ? 0 : 1;
          expect_within(back(y), linear_reference(x, rounded_to(w, dtype), bias, add, Activation::None, dtype,
                                                  of_bias));
        }
}

TEST_F(Products, LinearWithEveryActivation) {
  for (const DType dtype : kFloats)
    for (const Activation activation : kActivations)
      for (const bool with_bias : {false, true})
        for (const bool with_add : {false, true})
          for (const int O : {24, 13, 300}) {
            SCOPED_TRACE(::testing::Message()
                         << to_string(dtype) << ", activation " << static_cast<int>(activation) << ", bias "
                         << with_bias << ", add " << with_add << ", O " << O);
            const Tensor x = rounded_to(random_tensor({7, 20}, 5), dtype);
            const Tensor w = rounded_to(random_tensor({O, 20}, 6, 0.5f), dtype);
            // f32 biases count in full where an activation follows
            const DType bias_dtype = activation == Activation::None ? dtype : DType::F32;
            const Tensor bias = with_bias ? rounded_to(random_tensor({O}, 7), bias_dtype) : Tensor();
            const Tensor add = with_add ? rounded_to(random_tensor({7, O}, 8), dtype) : Tensor();
            Tensor y = empty({7, O}, dtype);
            gpu().linear(there(x, dtype), there(w, dtype), there(bias, bias_dtype), there(add, dtype),
                         activation, y);
            expect_within(back(y), linear_reference(x, w, bias, add, activation, dtype));
          }
}

TEST_F(Products, LinearMatchesTheCpu) {
  const Tensor x = random_tensor({2, 9, 130}, 9), w = random_tensor({37, 130}, 10, 0.1f);
  const Tensor bias = random_tensor({37}, 11), add = random_tensor({2, 9, 37}, 12);
  for (const Activation activation : kActivations) {
    Tensor expected = Tensor::empty({2, 9, 37}), y = empty({2, 9, 37});
    cpu_kernels().linear(x, w, bias, add, activation, expected);
    gpu().linear(there(x), there(w), there(bias), there(add), activation, y);
    expect_close(back(y), doubles(expected), 4e-6, 1e-6);
  }
}

TEST_F(Products, LinearOfQuantisedWeights) {
  for (const DType kind : {DType::Q8_0, DType::Q4_0})
    for (const DType dtype : kFloats) {
      const Tensor x = rounded_to(random_tensor({3, 64}, 13), dtype);
      const Tensor w = to_dtype(random_tensor({10, 64}, 14), kind);
      Tensor y = empty({3, 10}, dtype);
      gpu().linear(there(x, dtype), there(w), {}, {}, Activation::None, y);
      const Tensor wide = rounded_to(to_dtype(w, DType::F32), dtype);
      expect_within(back(y), linear_reference(x, wide, {}, {}, Activation::None, dtype));
    }
}

// `rows` rows, those of x over and over.
Tensor repeated(const Tensor& x, int64_t rows) {
  Tensor y = Tensor::empty({rows, x.dim(1)});
  for (int64_t row = 0; row < rows; ++row)
    std::copy_n(x.data<float>() + row % x.dim(0) * x.dim(1), x.dim(1), y.data<float>() + row * x.dim(1));
  return y;
}

// Above 8 Mi elements halves go through the activation after a rounding, or in the library.
TEST_F(Products, LargeResultsWithAnActivation) {
  const int64_t M = 4099, O = 2048, I = 8, kRows = 5;
  for (const DType dtype : {DType::F16, DType::BF16})
    for (const Activation activation : {Activation::Silu, Activation::GeluTanh}) {
      SCOPED_TRACE(::testing::Message() << to_string(dtype) << " " << static_cast<int>(activation));
      const Tensor x = rounded_to(random_tensor({kRows, I}, 15), dtype);
      const Tensor w = rounded_to(random_tensor({O, I}, 16, 0.5f), dtype);
      const Tensor bias = rounded_to(random_tensor({O}, 17), dtype);
      const Tensor add = dtype == DType::F16 ? rounded_to(random_tensor({kRows, O}, 18), dtype) : Tensor();
      Tensor y = empty({M, O}, dtype);
      gpu().linear(there(repeated(x, M), dtype), there(w, dtype), there(bias, dtype),
                   add ? there(repeated(add, M), dtype) : Tensor(), activation, y);
      const Tensor got = back(y);
      auto expected = linear_reference(x, w, bias, add, activation, dtype);
      const auto before = linear_reference(x, w, bias, add, Activation::None, dtype);
      for (size_t i = 0; i < expected.size(); ++i)
        expected[i].bound +=
            (activation == Activation::Silu ? 1.2 * epsilon_of(dtype) : 0x1p-11) * std::abs(before[i].value);
      expect_within(got.slice(0, kRows), expected);
      int64_t different = 0;
      for (int64_t row = kRows; row < M; ++row)
        different += !same_bits(got.slice(row, row + 1), got.slice(row % kRows, row % kRows + 1));
      EXPECT_EQ(different, 0);
    }
}

TEST_F(Products, MoreRowsThanOneCallTakes) {
  const int64_t M = (int64_t{1} << 22) + 3;
  const Tensor x = rounded_to(random_tensor({M, 1}, 19), DType::F16);
  const Tensor add = rounded_to(random_tensor({M, 1}, 20), DType::F16);
  const Tensor w = Tensor::from<float>({1, 1}, std::vector<float>{0.5f}),
               b = Tensor::from<float>({1}, std::vector<float>{2.0f});
  Tensor y = empty({M, 1}, DType::F16);
  gpu().linear(there(x, DType::F16), there(w, DType::F16), there(b, DType::F16), there(add, DType::F16),
               Activation::None, y);
  expect_within(back(y), linear_reference(x, w, b, add, Activation::None, DType::F16));
}

TEST_F(Products, NothingToSum) {
  for (const DType dtype : kFloats) {
    const Tensor bias = rounded_to(random_tensor({12}, 21), DType::F32);
    const Tensor add = rounded_to(random_tensor({3, 12}, 22), dtype);
    Tensor y = empty({3, 12}, dtype);
    gpu().linear(empty({3, 0}, dtype), empty({12, 0}, dtype), there(bias), there(add, dtype),
                 Activation::Silu, y);
    expect_within(back(y), linear_reference(Tensor::empty({3, 0}), Tensor::empty({12, 0}), bias, add,
                                            Activation::Silu, dtype));
    gpu().linear(empty({3, 0}, dtype), empty({12, 0}, dtype), {}, {}, Activation::None, y);
    expect_close(back(y), std::vector<double>(36, 0.0), 0, 0);
    Tensor none = empty({0, 12}, dtype);
    gpu().linear(empty({0, 8}, dtype), empty({12, 8}, dtype), there(bias), {}, Activation::Silu, none);
    Tensor narrow = empty({3, 0}, dtype);
    gpu().linear(empty({3, 8}, dtype), empty({0, 8}, dtype), {}, {}, Activation::None, narrow);
  }
}

TEST_F(Products, NanAndInfinityGoThrough) {
  const float nan = std::nanf(""), inf = INFINITY;
  for (const DType dtype : kFloats)
    for (const Activation activation : kActivations)
      for (const int O : {8, 3}) {
        SCOPED_TRACE(::testing::Message() << to_string(dtype) << " " << static_cast<int>(activation));
        const Tensor x =
            Tensor::from<float>({5, 2}, std::vector<float>{nan, 1, 1, nan, inf, 1, -1, 1, 2, -inf});
        std::vector<float> ones(static_cast<size_t>(2 * O), 1.0f), added(static_cast<size_t>(5 * O), 0.0f);
        added[static_cast<size_t>(3 * O)] = nan;
        const Tensor w = Tensor::from<float>({O, 2}, ones), add = Tensor::from<float>({5, O}, added);
        Tensor expected = Tensor::empty({5, O}), y = empty({5, O}, dtype);
        cpu_kernels().linear(x, w, {}, add, activation, expected);
        gpu().linear(there(x, dtype), there(w, dtype), {}, there(add, dtype), activation, y);
        expect_close(back(y), doubles(expected), 1e-6, 2 * epsilon_of(dtype));
      }
}

// The same elements, but at an address that is a multiple of one element only.
Tensor shifted(const Tensor& x) {
  const size_t bytes = size_of(x.dtype());
  const Tensor here = copy_to(x, Device{});
  Tensor longer = Tensor::empty({x.numel() + 1}, x.dtype());
  std::memset(longer.raw(), 0, bytes);
  std::memcpy(static_cast<char*>(longer.raw()) + bytes, here.raw(), here.bytes());
  return Tensor(x.shape(), x.dtype(), copy_to(longer, x.device()).storage(), bytes);
}

TEST_F(Products, AnyAlignment) {
  for (const DType dtype : kFloats)
    for (const int which : {0, 1, 2, 3, 4, 5})
      for (const Activation activation : {Activation::None, Activation::Silu})
        for (const int O : {16, 11}) {
          SCOPED_TRACE(::testing::Message() << to_string(dtype) << " tensor " << which << " O " << O);
          const Tensor x = rounded_to(random_tensor({6, 16}, 23), dtype);
          const Tensor w = rounded_to(random_tensor({O, 16}, 24), dtype);
          const Tensor bias = rounded_to(random_tensor({O}, 25), dtype);
          const Tensor add = rounded_to(random_tensor({6, O}, 26), dtype);
          const auto at = [&](int number, const Tensor& t) {
            return which == number || which == 5 ? shifted(there(t, dtype)) : there(t, dtype);
          };
          Tensor y = at(4, add);
          gpu().linear(at(0, x), at(1, w), at(2, bias), at(3, add), activation, y);
          expect_within(back(y), linear_reference(x, w, bias, add, activation, dtype));
        }
}

TEST_F(Products, TheSameBitsEachTime) {
  const Tensor x = there(random_tensor({33, 200}, 27), DType::BF16);
  const Tensor w = there(random_tensor({50, 200}, 28), DType::BF16);
  Tensor first = empty({33, 50}, DType::BF16), second = empty({33, 50}, DType::BF16);
  gpu().linear(x, w, {}, {}, Activation::Gelu, first);
  gpu().linear(x, w, {}, {}, Activation::Gelu, second);
  EXPECT_TRUE(same_bits(back(first), back(second)));
}

float at(const Tensor& x, int64_t place) { return x.data<float>()[place]; }

std::vector<Expected> matmul_reference(const Tensor& a, const Tensor& b, Transpose transpose, float alpha,
                                       const Shape& shape, DType dtype) {
  const bool left = transpose == Transpose::Left, right = transpose == Transpose::Right;
  const int64_t M = shape.dim(1), N = shape.dim(2), K = a.dim(left ? 1 : 2);
  std::vector<Expected> result;
  for (int64_t z = 0; z < shape.dim(0); ++z)
    for (int64_t m = 0; m < M; ++m)
      for (int64_t n = 0; n < N; ++n) {
        double sum = 0, magnitude = 0;
        for (int64_t k = 0; k < K; ++k) {
          const double p = static_cast<double>(at(a, z * M * K + (left ? k * M + m : m * K + k))) *
                           static_cast<double>(at(b, z * N * K + (right ? n * K + k : k * N + n)));
          sum += p;
          magnitude += std::abs(p);
        }
        const auto factor = static_cast<double>(alpha);
        result.push_back({factor * sum, static_cast<double>(K + 4) * kEpsilon * std::abs(factor) * magnitude +
                                            1.001 * epsilon_of(dtype) * std::abs(factor * sum) + 0x1p-25});
      }
  return result;
}

TEST_F(Products, Matmul) {
  for (const DType dtype : kFloats)
    for (const Transpose transpose : {Transpose::None, Transpose::Left, Transpose::Right})
      for (const auto& [B, M, N, K] :
           {std::array{3, 5, 7, 9}, std::array{1, 16, 8, 72}, std::array{2, 1, 33, 4}})
        for (const float alpha : {1.0f, -0.25f}) {
          SCOPED_TRACE(::testing::Message()
                       << to_string(dtype) << " " << static_cast<int>(transpose) << " " << K);
          const bool left = transpose == Transpose::Left, right = transpose == Transpose::Right;
          const Tensor a = rounded_to(random_tensor(left ? Shape{B, K, M} : Shape{B, M, K}, 29), dtype);
          const Tensor b = rounded_to(random_tensor(right ? Shape{B, N, K} : Shape{B, K, N}, 30), dtype);
          Tensor y = empty({B, M, N}, dtype);
          gpu().matmul(there(a, dtype), there(b, dtype), transpose, alpha, y);
          expect_within(back(y), matmul_reference(a, b, transpose, alpha, y.shape(), dtype));
        }
}

TEST_F(Products, MatmulOfNothing) {
  Tensor y = empty({2, 3, 4}), none = empty({0, 3, 4}), flat = empty({2, 0, 4});
  gpu().matmul(empty({2, 3, 0}), empty({2, 0, 4}), Transpose::None, 1, y);
  expect_close(back(y), std::vector<double>(24, 0.0), 0, 0);
  gpu().matmul(empty({0, 3, 5}), empty({0, 5, 4}), Transpose::None, 1, none);
  gpu().matmul(empty({2, 0, 5}), empty({2, 5, 4}), Transpose::None, 1, flat);
}

TEST_F(Products, MoreMatricesThanOneCallTakes) {
  const int64_t B = 65541;
  const Tensor a = random_tensor({B, 2, 3}, 31), b = random_tensor({B, 3, 1}, 32);
  Tensor y = empty({B, 2, 1});
  gpu().matmul(there(a), there(b), Transpose::None, 1, y);
  expect_within(back(y), matmul_reference(a, b, Transpose::None, 1, y.shape(), DType::F32));
}

TEST_F(Products, HeadsAsABatch) {
  // scores [H,T,S] = q k^T of tokens [T,H*D], in f32; then mixed [T,H*D] += scores v
  const int64_t H = 3, T = 5, S = 7, D = 8;
  for (const DType dtype : kFloats) {
    const Tensor q = rounded_to(random_tensor({T, H * D}, 33), dtype),
                 k = rounded_to(random_tensor({S, H * D}, 34), dtype);
    const Tensor q_there = there(q, dtype), k_there = there(k, dtype);
    Tensor scores = empty({H, T, S});
    Product p;
    p.batch = H;
    p.m = T;
    p.n = S;
    p.k = D;
    p.dtype = dtype;
    p.a = q_there.raw();
    p.b = k_there.raw();
    p.y = scores.raw();
    p.b_is_nk = true;
    p.a_row = p.b_row = H * D;
    p.a_batch = p.b_batch = D;
    ASSERT_TRUE(multiply(p));
    std::vector<double> expected;
    for (int64_t h = 0; h < H; ++h)
      for (int64_t t = 0; t < T; ++t)
        for (int64_t s = 0; s < S; ++s) {
          double sum = 0;
          for (int64_t d = 0; d < D; ++d)
            sum += static_cast<double>(at(q, t * H * D + h * D + d)) *
                   static_cast<double>(at(k, s * H * D + h * D + d));
          expected.push_back(sum);
        }
    expect_close(back(scores), expected, 4e-6, 0);

    const Tensor start = random_tensor({T, H * D}, 35);
    Tensor mixed = there(start);
    const Tensor values = there(k);
    Product sum;
    sum.batch = H;
    sum.m = T;
    sum.n = D;
    sum.k = S;
    sum.a = scores.raw();
    sum.b = values.raw();
    sum.y = mixed.raw();
    sum.add = mixed.raw();
    sum.b_row = sum.y_row = H * D;
    sum.b_batch = sum.y_batch = D;
    ASSERT_TRUE(multiply(sum));
    std::vector<double> mix = doubles(start);
    for (int64_t t = 0; t < T; ++t)
      for (int64_t h = 0; h < H; ++h)
        for (int64_t d = 0; d < D; ++d)
          for (int64_t s = 0; s < S; ++s)
            mix[static_cast<size_t>(t * H * D + h * D + d)] +=
                expected[static_cast<size_t>((h * T + t) * S + s)] *
                static_cast<double>(at(k, s * H * D + h * D + d));
    expect_close(back(mixed), mix, 4e-5, 0);
  }
}

TEST_F(Products, OneMatrixForAllOfABatch) {
  const Tensor a = random_tensor({4, 3, 5}, 36), b = random_tensor({5, 6}, 37);
  const Tensor a_there = there(a), b_there = there(b);
  Tensor y = empty({4, 3, 6});
  Product p;
  p.batch = 4;
  p.m = 3;
  p.n = 6;
  p.k = 5;
  p.a = a_there.raw();
  p.b = b_there.raw();
  p.y = y.raw();
  p.b_batch = 0;
  ASSERT_TRUE(multiply(p));
  expect_within(back(y), matmul_reference(a.reshape({1, 12, 5}), b.reshape({1, 5, 6}), Transpose::None, 1,
                                          {1, 12, 6}, DType::F32));
}

TEST_F(Products, Tf32OnlyWhenAskedFor) {
  const Tensor a = random_tensor({1, 8, 64}, 38), b = random_tensor({1, 64, 8}, 39);
  auto expected = matmul_reference(a, b, Transpose::None, 1, {1, 8, 8}, DType::F32);
  Tensor y = empty({1, 8, 8});
  EXPECT_FALSE(cuda::tf32());
  gpu().matmul(there(a), there(b), Transpose::None, 1, y);
  expect_within(back(y), expected);
  cuda::set_tf32(true);
  EXPECT_TRUE(cuda::tf32());
  gpu().matmul(there(a), there(b), Transpose::None, 1, y);
  cuda::set_tf32(false);
  const Tensor rounded = back(y);
  for (size_t i = 0; i < expected.size(); ++i) {
    double magnitude = 0;
    for (int64_t k = 0; k < 64; ++k)
      magnitude += std::abs(static_cast<double>(at(a, static_cast<int64_t>(i) / 8 * 64 + k)) *
                            static_cast<double>(at(b, k * 8 + static_cast<int64_t>(i) % 8)));
    expected[i].bound += 0x1p-10 * magnitude;
  }
  expect_within(rounded, expected);
  gpu().matmul(there(a), there(b), Transpose::None, 1, y);
  expect_within(back(y), matmul_reference(a, b, Transpose::None, 1, {1, 8, 8}, DType::F32));
}

TEST_F(Products, Tf32IsNothingToHalves) {
  for (const DType dtype : {DType::F16, DType::BF16}) {
    const Tensor x = there(random_tensor({4, 30}, 40), dtype), w = there(random_tensor({8, 30}, 41), dtype);
    Tensor expected = empty({4, 8}, dtype), y = empty({4, 8}, dtype);
    gpu().linear(x, w, {}, {}, Activation::None, expected);
    cuda::set_tf32(true);
    gpu().linear(x, w, {}, {}, Activation::None, y);
    cuda::set_tf32(false);
    EXPECT_TRUE(same_bits(back(y), back(expected)));
  }
}

TEST_F(Products, ABiasMustBeAligned) {
  const Tensor x = there(random_tensor({64}, 42));
  Tensor y = empty({1});
  Product p;
  p.m = p.n = p.k = 1;
  p.a = p.b = x.raw();
  p.bias = static_cast<const char*>(x.raw()) + 4;
  p.y = y.raw();
  expect_error(ErrorKind::InvalidArgument, "not at a multiple of 16 bytes",
               [&] { static_cast<void>(multiply(p)); });
}

TEST_F(Products, OnlyFloatingPoint) {
  const Tensor x = Tensor::empty({8}, DType::I32, device());
  Product p;
  p.m = p.n = p.k = 1;
  p.dtype = DType::I32;
  p.a = p.b = x.raw();
  p.y = const_cast<void*>(x.raw());
  expect_error(ErrorKind::InvalidArgument, "products are of f32, f16 or bf16",
               [&] { static_cast<void>(multiply(p)); });
  p.dtype = DType::F32;
  p.k = 0;
  expect_error(ErrorKind::InvalidArgument, "a product of nothing", [&] { static_cast<void>(multiply(p)); });
}

}  // namespace
}  // namespace sinopia::testing
