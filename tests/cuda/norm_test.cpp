#include <algorithm>
#include <limits>

#include "tests/cuda/on_gpu.h"

namespace sinopia {
namespace {

using namespace testing;

constexpr float kEps = 1e-5f;
constexpr float kInf = std::numeric_limits<float>::infinity(), kNaN = std::numeric_limits<float>::quiet_NaN();

double parameter(const Tensor& w, int64_t i, double otherwise) {
  return w ? static_cast<double>(w.data<float>()[i]) : otherwise;
}

/// What a norm makes of `count` numbers, the i-th at place(i) and of channel channel(i).
template <class Place, class Channel>
void normalise(std::vector<double>& v, int64_t count, bool centered, const Tensor& w, const Tensor& b,
               Place place, Channel channel) {
  const auto n = static_cast<double>(count);
  double mean = 0, variance = 0;
  if (centered)
    for (int64_t i = 0; i < count; ++i) mean += v[place(i)] / n;
  for (int64_t i = 0; i < count; ++i) variance += std::pow(v[place(i)] - mean, 2) / n;
  const double factor = 1 / std::sqrt(variance + static_cast<double>(kEps));
  for (int64_t i = 0; i < count; ++i) {
    double& e = v[place(i)];
    e = (e - mean) * factor * parameter(w, channel(i), 1) + parameter(b, channel(i), 0);
  }
}

std::vector<double> exact_row_norm(const Tensor& x, bool centered, const Tensor& w, const Tensor& b) {
  std::vector<double> v = doubles(x);
  const int64_t D = x.dim(-1);
  for (int64_t row = 0; row < x.numel() / D; ++row)
    normalise(
        v, D, centered, w, b, [&](int64_t i) { return static_cast<size_t>(row * D + i); },
        [](int64_t i) { return i; });
  return v;
}

std::vector<double> exact_group_norm(const Tensor& x, int groups, const Tensor& w, const Tensor& b) {
  std::vector<double> v = doubles(x);
  const int64_t N = x.dim(0), C = x.dim(-1), P = x.numel() / (N * C), width = C / groups;
  for (int64_t n = 0; n < N; ++n)
    for (int64_t g = 0; g < groups; ++g)
      normalise(
          v, P * width, true, w, b,
          [&](int64_t i) { return static_cast<size_t>((n * P + i / width) * C + g * width + i % width); },
          [&](int64_t i) { return g * width + i % width; });
  return v;
}

/// What is allowed for the few roundings within f32, and that of the result.
double tolerance(DType dtype) { return 32 * kEpsilon + (dtype == DType::F32 ? 0 : epsilon_of(dtype)); }

class CudaNorm : public OnGpu {
 protected:
  Tensor layer_norm(const Tensor& x, const Tensor& w, const Tensor& b) const {
    Tensor y = empty(x.shape(), x.dtype());
    gpu().layer_norm(x, w, b, kEps, y);
    return back(y);
  }
  Tensor rms_norm(const Tensor& x, const Tensor& w) const {
    Tensor y = empty(x.shape(), x.dtype());
    gpu().rms_norm(x, w, kEps, y);
    return back(y);
  }
  Tensor group_norm(const Tensor& x, int groups, const Tensor& w, const Tensor& b,
                    Activation activation = Activation::None) const {
    Tensor y = empty(x.shape(), x.dtype());
    gpu().group_norm(x, groups, w, b, kEps, activation, y);
    return back(y);
  }
  /// x from the second element of its storage on, which no wide access can read.
  Tensor displaced(const Tensor& x, DType dtype) const {
    std::vector<float> values(static_cast<size_t>(x.numel() + 1));
    std::copy_n(x.data<float>(), x.numel(), values.begin() + 1);
    const Tensor all = there(Tensor::from({x.numel() + 1}, values), dtype);
    return all.slice(1, x.numel() + 1).reshape(x.shape());
  }
};

TEST_F(CudaNorm, RowsMatchTheFormula) {
  // Rows that one warp keeps, those of a block, and those that cannot be read in wide runs.
  for (int64_t D : {1, 2, 7, 8, 33, 320, 640, 1280, 1304, 2048, 2056, 4100, 5001}) {
    for (DType dtype : kFloats) {
      const auto seed = static_cast<unsigned>(D);
      const Tensor x = rounded_to(random_tensor({2, 3, D}, seed, 2, 1), dtype);
      for (int combination = 0; combination < 5; ++combination) {
        const DType dtype_w = kFloats[static_cast<size_t>(combination + D) % 3];
        const DType dtype_b = kFloats[static_cast<size_t>(combination / 3 + D + 1) % 3];
        Tensor w = rounded_to(random_tensor({D}, seed + 1), dtype_w),
               b = rounded_to(random_tensor({D}, seed + 2), dtype_b);
        if (combination == 3) w = Tensor();
        if (combination >= 3) b = Tensor();
        SCOPED_TRACE(::testing::Message() << "D " << D << " " << to_string(dtype) << " " << combination);
        expect_close(layer_norm(there(x, dtype), there(w, dtype_w), there(b, dtype_b)),
                     exact_row_norm(x, true, w, b), tolerance(dtype), tolerance(dtype));
        expect_close(rms_norm(there(x, dtype), there(w, dtype_w)), exact_row_norm(x, false, w, {}),
                     dtype == DType::F16 ? 0x1p-25 : 0, tolerance(dtype));  // f16 has few numbers below 6e-5
      }
    }
  }
}

TEST_F(CudaNorm, RowsMayBeginAnywhere) {
  for (DType dtype : kFloats) {
    const Tensor x = rounded_to(random_tensor({5, 64}, 1), dtype), w = random_tensor({64}, 2),
                 b = random_tensor({64}, 3);
    const std::vector<double> expected = exact_row_norm(x, true, w, b);
    expect_close(layer_norm(displaced(x, dtype), there(w), there(b)), expected, tolerance(dtype),
                 tolerance(dtype));
    expect_close(layer_norm(there(x, dtype), displaced(w, DType::F32), there(b)), expected, tolerance(dtype),
                 tolerance(dtype));
    expect_close(layer_norm(there(x, dtype), there(w), displaced(b, DType::F32)), expected, tolerance(dtype),
                 tolerance(dtype));
  }
}

TEST_F(CudaNorm, ManyRows) {
  const Tensor x = random_tensor({1500, 24}, 1, 3, -2);  // several warps in a block, the last not full
  expect_close(layer_norm(there(x), {}, {}), exact_row_norm(x, true, {}, {}), tolerance(DType::F32),
               tolerance(DType::F32));
}

TEST_F(CudaNorm, RowsStayExactBesideALargeMean) {
  for (int64_t D : {1280, 3001}) {
    const Tensor x = random_tensor({3, D}, 1, 1, 1e4f);
    expect_close(layer_norm(there(x), {}, {}), exact_row_norm(x, true, {}, {}), 16 * kEpsilon, 16 * kEpsilon);
  }
}

TEST_F(CudaNorm, NotANumberStaysInItsRow) {
  for (int64_t D : {64, 3000}) {
    for (DType dtype : kFloats) {
      for (float bad : {kNaN, kInf}) {
        Tensor x = rounded_to(random_tensor({3, D}, 1), dtype);
        x.data<float>()[D + 5] = bad;
        Tensor y = layer_norm(there(x, dtype), {}, {});
        for (int64_t i = 0; i < 3 * D; ++i) ASSERT_EQ(std::isnan(y.data<float>()[i]), i / D == 1) << i;
        y = rms_norm(there(x, dtype), {});
        for (int64_t i = 0; i < 3 * D; ++i)
          ASSERT_EQ(std::isnan(y.data<float>()[i]), i / D == 1 && (std::isnan(bad) || i == D + 5)) << i;
      }
    }
  }
}

TEST_F(CudaNorm, GroupsMatchTheFormula) {
  struct Case {
    Shape x;
    int groups;
  };
  unsigned seed = 1;
  // Small pictures that a block norms by itself, and large ones; groups that share wide runs, that have no
  // wide runs, that reach over the strips of two blocks; a single number; many pictures; many blocks.
  for (const Case& c : {Case{{2, 3, 5, 8}, 2},      Case{{1, 7, 7, 30}, 3},   Case{{3, 6}, 3},
                        Case{{1, 1, 1, 4}, 1},      Case{{2, 257, 32}, 32},   Case{{1, 16, 17, 20}, 5},
                        Case{{2, 23, 23, 64}, 32},  Case{{1, 513, 7}, 7},     Case{{2, 9, 7, 320}, 32},
                        Case{{2, 53, 31, 320}, 32}, Case{{1, 64, 65, 64}, 4}, Case{{1, 3, 2, 2, 2, 12}, 4},
                        Case{{1, 1030, 3}, 1},      Case{{1, 90000, 3}, 1},   Case{{1, 2, 5000}, 1},
                        Case{{1, 37, 6400}, 5},     Case{{1, 41, 4002}, 2},   Case{{1, 700, 96}, 96},
                        Case{{2100, 2, 4}, 2},      Case{{1, 4300, 385}, 5},  Case{{1, 11000, 24}, 8}}) {
    const int64_t C = c.x.dim(-1);
    for (DType dtype : kFloats) {
      if (c.x.numel() > 100000 && dtype == DType::F16) continue;  // as bf16
      if (c.x.numel() > 1000000 && dtype != DType::F32) continue;
      const Tensor x = rounded_to(random_tensor(c.x, seed++, 2, 1), dtype);
      const DType dtype_w = kFloats[seed % 3], dtype_b = kFloats[(seed / 3) % 3];
      const Tensor w = rounded_to(random_tensor({C}, seed++), dtype_w),
                   b = rounded_to(random_tensor({C}, seed++), dtype_b);
      const Tensor from = there(x, dtype);
      SCOPED_TRACE(::testing::Message() << to_string(c.x) << " in " << c.groups << " " << to_string(dtype));
      expect_close(group_norm(from, c.groups, there(w, dtype_w), there(b, dtype_b)),
                   exact_group_norm(x, c.groups, w, b), tolerance(dtype), tolerance(dtype));
      if (c.x.numel() > 10000) continue;
      expect_close(group_norm(from, c.groups, there(w, dtype_w), {}), exact_group_norm(x, c.groups, w, {}),
                   tolerance(dtype), tolerance(dtype));
      expect_close(group_norm(from, c.groups, {}, there(b, dtype_b)), exact_group_norm(x, c.groups, {}, b),
                   tolerance(dtype), tolerance(dtype));
      expect_close(group_norm(displaced(x, dtype), c.groups, {}, {}), exact_group_norm(x, c.groups, {}, {}),
                   tolerance(dtype), tolerance(dtype));
    }
  }
}

TEST_F(CudaNorm, GroupsOfMorePicturesThanOneLaunchTakes) {
  const Tensor many = random_tensor({1026, 2, 770}, 3);  // of one group whose channels no block takes at once
  expect_close(group_norm(there(many), 1, {}, {}), exact_group_norm(many, 1, {}, {}), tolerance(DType::F32),
               tolerance(DType::F32));
}

TEST_F(CudaNorm, GroupsFuseEveryActivation) {
  for (const Shape& shape : {Shape{2, 9, 31, 24}, Shape{1, 11000, 24}}) {
    for (DType dtype : kFloats) {
      if (shape.dim(0) == 1 && dtype == DType::BF16) continue;
      const Tensor x = rounded_to(random_tensor(shape, 1, 2), dtype), w = random_tensor({24}, 2),
                   b = random_tensor({24}, 3);
      for (Activation activation :
           {Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu, Activation::Relu,
            Activation::Tanh, Activation::Sigmoid}) {
        Tensor expected = Tensor::empty(shape);
        cpu_kernels().group_norm(x, 8, w, b, kEps, activation, expected);
        SCOPED_TRACE(::testing::Message() << to_string(dtype) << " " << static_cast<int>(activation));
        expect_close(group_norm(there(x, dtype), 8, there(w), there(b), activation), doubles(expected),
                     64 * kEpsilon, tolerance(dtype));
      }
    }
  }
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

TEST_F(CudaNorm, GroupsStayExact) {
  const Tensor large = hard_groups(30003, 8, 2, 0);
  expect_close(group_norm(there(large), 2, {}, {}), exact_group_norm(large, 2, {}, {}), 8 * kEpsilon,
               16 * kEpsilon);
  for (int64_t P : {301, 3001}) {
    const Tensor x = hard_groups(P, 12, 3, 1e4f);
    expect_close(group_norm(there(x), 3, {}, {}), exact_group_norm(x, 3, {}, {}), 16 * kEpsilon,
                 16 * kEpsilon);
  }
  const Tensor far = random_tensor({1, 3000, 16}, 3, 1, 1e6f);  // of deviations of 16 units in the last place
  expect_close(group_norm(there(far), 2, {}, {}), exact_group_norm(far, 2, {}, {}), 16 * kEpsilon,
               16 * kEpsilon);
}

TEST_F(CudaNorm, AConstantGroupIsItsBias) {
  for (int64_t P : {50, 3000}) {
    Tensor x = Tensor::empty({1, P, 16});
    std::fill_n(x.data<float>(), x.numel(), 12345.678f);
    const Tensor b = random_tensor({16}, 1);
    std::vector<double> expected = doubles(x);
    for (size_t i = 0; i < expected.size(); ++i) expected[i] = parameter(b, static_cast<int64_t>(i % 16), 0);
    expect_close(group_norm(there(x), 2, {}, there(b)), expected, kEpsilon, kEpsilon);
  }
}

TEST_F(CudaNorm, NotANumberStaysInItsGroup) {
  for (int64_t P : {50, 3000}) {
    for (float bad : {kNaN, kInf}) {
      for (int64_t at : {int64_t{0}, P / 2, P - 1}) {
        Tensor x = random_tensor({2, P, 12}, 1);
        x.data<float>()[(P + at) * 12 + 4] = bad;  // the second picture's second group
        const Tensor y = group_norm(there(x), 3, {}, {}, Activation::Silu);
        for (int64_t i = 0; i < x.numel(); ++i)
          ASSERT_EQ(std::isnan(y.data<float>()[i]), i >= P * 12 && i % 12 / 4 == 1) << i;
      }
    }
  }
}

TEST_F(CudaNorm, ABatchEqualsItsPictures) {
  for (const Shape& shape : {Shape{3, 7, 9, 20}, Shape{3, 97, 61, 20}}) {
    const Tensor x = random_tensor(shape, 4), w = random_tensor({20}, 5);
    const Tensor y = group_norm(there(x), 4, there(w), {}, Activation::Silu);
    for (int64_t n = 0; n < 3; ++n)
      EXPECT_TRUE(same_bits(group_norm(there(x.slice(n, n + 1)), 4, there(w), {}, Activation::Silu),
                            y.slice(n, n + 1)));
  }
}

TEST_F(CudaNorm, NothingGivesNothing) {
  EXPECT_EQ(layer_norm(there(Tensor::empty({0, 8})), {}, {}).numel(), 0);
  EXPECT_EQ(rms_norm(there(Tensor::empty({0, 8})), {}).numel(), 0);
  EXPECT_EQ(group_norm(there(Tensor::empty({0, 3, 8})), 2, {}, {}).numel(), 0);
  EXPECT_EQ(group_norm(there(Tensor::empty({2, 0, 8})), 2, {}, {}).numel(), 0);
}

// Gradients, beside the CPU's, which tests/ops/layer_gradient_test.cpp compares with differences.

struct Gradient {
  Tensor dx, dw, db;
};

/// The gradients of one kernel on both devices; dw and db start as NaN. dx is the rest of terms of about 1
/// that cancel, or of 1 / sqrt(eps) where a norm is of one number.
template <class Call>
void expect_same_gradients(const Call& call, const Shape& shape, double relative, Device device, bool with_dw,
                           bool with_db) {
  const double terms = shape.numel() == 1 ? 316 : 1;
  const auto of = [&](Device where) {
    const auto fresh = [&](const Shape& s) {
      Tensor t = Tensor::empty(s);
      std::fill_n(t.data<float>(), t.numel(), kNaN);
      return copy_to(t, where);
    };
    Gradient g{fresh(shape), with_dw ? fresh({shape.dim(-1)}) : Tensor(),
               with_db ? fresh({shape.dim(-1)}) : Tensor()};
    call(kernels(where), where, g);
    return g;
  };
  const Gradient expected = of({}), got = of(device);
  const auto compare = [&](const Tensor& there, const Tensor& here, const char* name) {
    if (!here) return;
    SCOPED_TRACE(name);
    const std::vector<double> values = doubles(here);
    double largest = terms;
    for (double v : values) largest = std::max(largest, std::abs(v));
    expect_close(back(there), values, relative * largest, relative);
  };
  compare(got.dx, expected.dx, "dx");
  compare(got.dw, expected.dw, "dw");
  compare(got.db, expected.db, "db");
}

TEST_F(CudaNorm, RowGradients) {
  unsigned seed = 1;
  for (const Shape& shape :
       {Shape{1, 1}, Shape{3, 7}, Shape{5, 8}, Shape{150, 20}, Shape{2, 3, 320}, Shape{5, 1280},
        Shape{2, 4096}, Shape{5, 1023}, Shape{9, 1201}, Shape{2, 4100}, Shape{600, 12}, Shape{0, 16}}) {
    for (const auto& [with_w, with_dw, with_db] :
         {std::tuple(true, true, true), {true, false, true}, {false, true, false}, {false, false, false}}) {
      if (shape.dim(-1) > 1000 && !(with_w && with_dw)) continue;
      const DType dtype = kFloats[seed % 3];
      const int64_t D = shape.dim(-1);
      const Tensor x = random_tensor(shape, seed++, 2, 1), dy = random_tensor(shape, seed++),
                   w = with_w ? rounded_to(random_tensor({D}, seed++), dtype) : Tensor();
      SCOPED_TRACE(::testing::Message() << to_string(shape) << with_w << with_dw << with_db);
      const auto at = [&](const Tensor& t, Device where) { return t ? copy_to(t, where) : t; };
      const Tensor stored = w ? to_dtype(w, dtype) : w;
      expect_same_gradients(
          [&, here = stored](Kernels& k, Device where, Gradient& g) {
            k.layer_norm_backward(at(x, where), at(here, where), kEps, at(dy, where), g.dx, g.dw, g.db);
          },
          shape, 32 * kEpsilon, device(), with_dw, with_db);
      expect_same_gradients(
          [&, here = stored](Kernels& k, Device where, Gradient& g) {
            k.rms_norm_backward(at(x, where), at(here, where), kEps, at(dy, where), g.dx, g.dw);
          },
          shape, 32 * kEpsilon, device(), with_dw, false);
    }
  }
}

TEST_F(CudaNorm, RowGradientsBesideALargeMean) {
  for (const Shape& shape : {Shape{5, 64}, Shape{3, 2001}}) {
    const Tensor x = random_tensor(shape, 1, 1, 1e3f), dy = random_tensor(shape, 2);
    expect_same_gradients(
        [&](Kernels& k, Device where, Gradient& g) {
          k.layer_norm_backward(copy_to(x, where), {}, kEps, copy_to(dy, where), g.dx, g.dw, g.db);
        },
        shape, 32 * kEpsilon, device(), true, true);
  }
}

TEST_F(CudaNorm, GroupGradients) {
  unsigned seed = 1;
  struct Case {
    Shape x;
    int groups;
    float mean;
  };
  for (const Case& c :
       {Case{{2, 3, 5, 8}, 2, 1}, Case{{1, 7, 7, 30}, 3, 1}, Case{{3, 6}, 3, 1}, Case{{2, 257, 32}, 32, 0},
        Case{{1, 23, 23, 64}, 4, 0}, Case{{2, 40, 31, 40}, 4, -2}, Case{{1, 4003, 8}, 2, 1e3f},
        Case{{1, 9, 1032}, 43, 0}, Case{{1, 5, 2001}, 3, 0}, Case{{70, 4, 4}, 2, 0},
        Case{{1, 300, 96}, 96, 0}, Case{{1, 4300, 385}, 5, 0}, Case{{0, 3, 8}, 2, 0}}) {
    for (const auto& [with_w, with_dw, with_db] :
         {std::tuple(true, true, true), {true, false, true}, {false, true, false}, {false, false, false}}) {
      if (c.x.numel() > 1000000 && !(with_w && with_dw)) continue;
      const DType dtype = kFloats[seed % 3];
      const Tensor x = random_tensor(c.x, seed++, 2, c.mean), dy = random_tensor(c.x, seed++),
                   w = with_w ? to_dtype(random_tensor({c.x.dim(-1)}, seed++), dtype) : Tensor();
      SCOPED_TRACE(::testing::Message() << to_string(c.x) << with_w << with_dw << with_db);
      expect_same_gradients(
          [&, groups = c.groups](Kernels& k, Device where, Gradient& g) {
            k.group_norm_backward(copy_to(x, where), groups, w ? copy_to(w, where) : w, kEps,
                                  copy_to(dy, where), g.dx, g.dw, g.db);
          },
          c.x, 32 * kEpsilon, device(), with_dw, with_db);
    }
  }
}

}  // namespace
}  // namespace sinopia
