#include "tests/backend/product_reference.h"

namespace sinopia {
namespace {

using namespace testing;

struct Case {
  int64_t N, H, W, I, O, KH, KW;
  Conv2dOptions options;
  int64_t out_height() const {
    return (H + options.padding.top + options.padding.bottom - KH) / options.stride + 1;
  }
  int64_t out_width() const {
    return (W + options.padding.left + options.padding.right - KW) / options.stride + 1;
  }
};

enum class Add { None, Pixels, Images };

Tensor run_conv2d(const Case& c, const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& add,
                  Activation activation) {
  Tensor y = Tensor::empty({c.N, c.out_height(), c.out_width(), c.O});
  cpu_kernels().fill(y, std::nanf(""));
  cpu_kernels().conv2d(x, w, bias, add, c.options, activation, y);
  return y;
}

void check_conv2d(Random& random, const Case& given, DType dtype, bool bias, Add add, Activation activation) {
  Case c = given;
  c.options.method = Conv2dMethod::Direct;
  const Padding& pad = c.options.padding;
  SCOPED_TRACE(fmt::format("N={} H={} W={} I={} O={} kernel={}x{} stride={} padding={},{},{},{} {}", c.N, c.H,
                           c.W, c.I, c.O, c.KH, c.KW, c.options.stride, pad.top, pad.left, pad.bottom,
                           pad.right, to_string(dtype)));
  const int64_t OH = c.out_height(), OW = c.out_width();
  const Tensor x = random.normal({c.N, c.H, c.W, c.I});
  const Tensor w =
      random.normal({c.O, c.I, c.KH, c.KW}, 1 / std::sqrt(static_cast<float>(c.I * c.KH * c.KW)), dtype);
  const Tensor b = bias ? random.normal({c.O}, 1, dtype) : Tensor();
  const Tensor a = add == Add::Pixels   ? random.normal({c.N, OH, OW, c.O})
                   : add == Add::Images ? random.normal({c.N, c.O})
                                        : Tensor();
  const auto xs = doubles(x), ws = doubles(w), bs = doubles(b), as = doubles(a);
  std::vector<Sum> sums(c.N * OH * OW * c.O);
  size_t at = 0;
  for (int64_t n = 0; n < c.N; ++n) {
    for (int64_t oy = 0; oy < OH; ++oy) {
      for (int64_t ox = 0; ox < OW; ++ox) {
        for (int64_t o = 0; o < c.O; ++o, ++at) {
          for (int64_t ky = 0; ky < c.KH; ++ky) {
            for (int64_t kx = 0; kx < c.KW; ++kx) {
              const int64_t iy = oy * c.options.stride + ky - pad.top,
                            ix = ox * c.options.stride + kx - pad.left;
              if (iy < 0 || iy >= c.H || ix < 0 || ix >= c.W) continue;
              for (int64_t i = 0; i < c.I; ++i)
                sums[at].add(xs[((n * c.H + iy) * c.W + ix) * c.I + i] *
                             ws[((o * c.I + i) * c.KH + ky) * c.KW + kx]);
            }
          }
          if (b) sums[at].add(bs[o]);
          if (add == Add::Pixels) sums[at].add(as[at]);
          if (add == Add::Images) sums[at].add(as[n * c.O + o]);
        }
      }
    }
  }
  expect_products_near(run_conv2d(c, x, w, b, a, activation), sums, activation);
}

TEST(Conv2d, MatchesDoubleForAnyGeometry) {
  for_each_instruction_set([] {
    Random random(1);
    const int64_t channels[] = {1, 3, 4, 7, 15, 16, 20, 33};
    for (int i = 0; i < 100; ++i) {
      Case c{.N = random.integer(1, 3),
             .H = random.integer(1, 12),
             .W = random.integer(1, 12),
             .I = channels[random.integer(0, 7)],
             .O = channels[random.integer(0, 7)],
             .KH = random.integer(1, 5),
             .KW = random.integer(1, 5),
             .options = {}};
      const auto side = [&] { return static_cast<int>(random.integer(0, 2)); };
      c.options = {.stride = static_cast<int>(random.integer(1, 3)),
                   .padding = {side(), side(), side(), side()}};
      if (c.H + c.options.padding.top + c.options.padding.bottom < c.KH) c.KH = 1;
      if (c.W + c.options.padding.left + c.options.padding.right < c.KW) c.KW = 1;
      check_conv2d(random, c, kWeightTypes[i % 3], random.integer(0, 1),
                   static_cast<Add>(random.integer(0, 2)), kActivations[random.integer(0, 7)]);
    }
  });
}

TEST(Conv2d, MatchesDoubleForTheShapesOfModels) {
  for_each_instruction_set([] {
    Random random(2);
    const Conv2dOptions same{.stride = 1, .padding = Padding::same(1)};
    const Conv2dOptions down{.stride = 2, .padding = Padding::same(1)};
    const Conv2dOptions down_bottom_right{.stride = 2, .padding = {0, 0, 1, 1}};
    check_conv2d(random, {2, 16, 16, 4, 70, 3, 3, same}, DType::F32, true, Add::None, Activation::None);
    check_conv2d(random, {1, 13, 21, 70, 4, 3, 3, same}, DType::F16, true, Add::None, Activation::None);
    check_conv2d(random, {1, 17, 19, 40, 3, 3, 3, same}, DType::BF16, true, Add::Pixels, Activation::Silu);
    check_conv2d(random, {2, 9, 11, 340, 33, 3, 3, same}, DType::F16, true, Add::Images, Activation::Silu);
    check_conv2d(random, {2, 9, 11, 128, 48, 3, 3, same}, DType::F32, true, Add::Pixels, Activation::None);
    check_conv2d(random, {1, 12, 10, 64, 33, 3, 3, down}, DType::F32, true, Add::None, Activation::None);
    check_conv2d(random, {1, 12, 10, 64, 33, 3, 3, down_bottom_right}, DType::F32, true, Add::None,
                 Activation::None);
    check_conv2d(random, {2, 9, 7, 100, 65, 1, 1, {}}, DType::F16, true, Add::Pixels, Activation::None);
    check_conv2d(random, {1, 28, 28, 3, 40, 14, 14, {.stride = 14, .padding = {}}}, DType::F32, false,
                 Add::None, Activation::None);
    check_conv2d(random, {1, 20, 18, 16, 40, 2, 2, {.stride = 2, .padding = {}}}, DType::F32, true, Add::None,
                 Activation::None);
    check_conv2d(random, {1, 40, 40, 8, 5, 12, 12, same}, DType::F32, true, Add::None, Activation::None);
  });
}

// Against the sums in double: of all outputs together, relative to their root mean square.
double winograd_error(Random& random, const Case& given, Conv2dMethod method, DType dtype, Add add,
                      Activation activation) {
  Case c = given;
  const Tensor x = random.normal({c.N, c.H, c.W, c.I});
  const Tensor w = random.normal({c.O, c.I, 3, 3}, 1 / std::sqrt(9.0f * static_cast<float>(c.I)), dtype);
  const Tensor b = random.normal({c.O}, 1, dtype);
  const int64_t OH = c.out_height(), OW = c.out_width();
  const Tensor a = add == Add::Pixels   ? random.normal({c.N, OH, OW, c.O})
                   : add == Add::Images ? random.normal({c.N, c.O})
                                        : Tensor();
  c.options.method = method;
  const Tensor y = run_conv2d(c, x, w, b, a, activation);
  const auto xs = doubles(x), ws = doubles(w), bs = doubles(b), as = doubles(a);
  const Padding& pad = c.options.padding;
  double off = 0, all = 0;
  int64_t at = 0;
  for (int64_t n = 0; n < c.N; ++n) {
    for (int64_t oy = 0; oy < OH; ++oy) {
      for (int64_t ox = 0; ox < OW; ++ox) {
        for (int64_t o = 0; o < c.O; ++o, ++at) {
          double sum = bs[o] + (add == Add::Pixels ? as[at] : add == Add::Images ? as[n * c.O + o] : 0);
          for (int64_t ky = 0; ky < 3; ++ky) {
            for (int64_t kx = 0; kx < 3; ++kx) {
              const int64_t iy = oy + ky - pad.top, ix = ox + kx - pad.left;
              if (iy < 0 || iy >= c.H || ix < 0 || ix >= c.W) continue;
              for (int64_t i = 0; i < c.I; ++i)
                sum += xs[((n * c.H + iy) * c.W + ix) * c.I + i] * ws[((o * c.I + i) * 3 + ky) * 3 + kx];
            }
          }
          const double want = reference_activation(activation, sum), got = y.data<float>()[at];
          off += (got - want) * (got - want);
          all += want * want;
        }
      }
    }
  }
  return std::sqrt(off / all);
}

TEST(Conv2d, MinimalFilteringMatchesDouble) {
  for_each_instruction_set([] {
    Random random(5);
    for (const auto& [method, limit] :
         {std::pair{Conv2dMethod::Winograd2, 1e-6}, {Conv2dMethod::Winograd4, 5e-6}}) {
      for (int i = 0; i < 40; ++i) {
        const int64_t channels[] = {1, 5, 8, 17, 40};
        const auto side = [&] { return static_cast<int>(random.integer(0, 2)); };
        Case c{.N = random.integer(1, 3),
               .H = random.integer(3, 23),
               .W = random.integer(3, 23),
               .I = channels[random.integer(0, 4)],
               .O = channels[random.integer(0, 4)],
               .KH = 3,
               .KW = 3,
               .options = {}};
        c.options.padding = {side(), side(), side(), side()};
        EXPECT_LE(winograd_error(random, c, method, kWeightTypes[i % 3],
                                 static_cast<Add>(random.integer(0, 2)), kActivations[random.integer(0, 7)]),
                  limit);
      }
      // More channels than one piece, more tiles than one group.
      const Conv2dOptions same{.stride = 1, .padding = Padding::same(1)};
      EXPECT_LE(winograd_error(random, {2, 7, 9, 1300, 20, 3, 3, same}, method, DType::F16, Add::Images,
                               Activation::Silu),
                limit);
      EXPECT_LE(winograd_error(random, {1, 75, 66, 6, 18, 3, 3, same}, method, DType::F32, Add::Pixels,
                               Activation::None),
                limit);
      EXPECT_LE(winograd_error(random, {1, 61, 59, 270, 5, 3, 3, same}, method, DType::BF16, Add::None,
                               Activation::None),
                limit);
    }
  });
}

TEST(Conv2d, ChoosesTheMethodByTheShape) {
  Random random(6);
  const auto chosen = [&](int64_t size, int64_t I, int64_t O, int kernel, int stride) {
    Case c{1, size, size, I, O, kernel, kernel, {.stride = stride, .padding = Padding::same(kernel / 2)}};
    const Tensor x = random.normal({1, size, size, I}), w = random.normal({O, I, kernel, kernel});
    const Tensor y = run_conv2d(c, x, w, {}, {}, Activation::None);
    std::vector<Conv2dMethod> same;
    for (const auto method : {Conv2dMethod::Direct, Conv2dMethod::Winograd2, Conv2dMethod::Winograd4}) {
      c.options.method = method;
      const Tensor other = run_conv2d(c, x, w, {}, {}, Activation::None);
      if (std::memcmp(y.raw(), other.raw(), y.bytes()) == 0) same.push_back(method);
    }
    return same;
  };
  const auto only = [](Conv2dMethod method) { return std::vector{method}; };
  EXPECT_EQ(chosen(32, 96, 96, 3, 1), only(Conv2dMethod::Winograd4));
  EXPECT_EQ(chosen(10, 256, 256, 3, 1), only(Conv2dMethod::Winograd2));
  EXPECT_EQ(chosen(32, 4, 96, 3, 1), only(Conv2dMethod::Direct));
  EXPECT_EQ(chosen(32, 96, 4, 3, 1), only(Conv2dMethod::Direct));
  // Where minimal filtering does not apply, every method is the direct one.
  EXPECT_EQ(chosen(16, 64, 64, 3, 2).size(), 3u);
  EXPECT_EQ(chosen(16, 64, 64, 5, 1).size(), 3u);
}

TEST(Conv2d, SameBitsOnAnyThreads) {
  Random random(3);
  struct Channels {
    int64_t H, I, O;
  };
  for (const auto& [H, I, O] :
       {Channels{14, 4, 100}, {14, 100, 4}, {14, 96, 70}, {14, 400, 40}, {99, 40, 20}, {99, 300, 20}}) {
    const Case c{2, H, 17, I, O, 3, 3, {.stride = 1, .padding = Padding::same(1)}};
    const Tensor x = random.normal({c.N, c.H, c.W, I}), w = random.normal({O, I, 3, 3}, 0.05f, DType::BF16);
    const Tensor b = random.normal({O}), a = random.normal({c.N, O});
    expect_same_bits_on_any_threads([&] { return run_conv2d(c, x, w, b, a, Activation::Silu); });
  }
}

}  // namespace
}  // namespace sinopia
