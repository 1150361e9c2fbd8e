#include <cmath>

#include "sinopia/ops/activation.h"
#include "sinopia/ops/attention.h"
#include "sinopia/ops/conv2d.h"
#include "sinopia/ops/embedding.h"
#include "sinopia/ops/norm.h"
#include "sinopia/ops/pool.h"
#include "sinopia/ops/reduce.h"
#include "sinopia/ops/resize.h"
#include "sinopia/ops/shape.h"
#include "tests/ops/gradient_check.h"

namespace sinopia {
namespace {

using namespace testing;

struct ConvolutionCase {
  int64_t N, H, W, I, O, KH, KW;
  Conv2dOptions options;
  int64_t out_height() const {
    return (H + options.padding.top + options.padding.bottom - KH) / options.stride + 1;
  }
  int64_t out_width() const {
    return (W + options.padding.left + options.padding.right - KW) / options.stride + 1;
  }
};

Doubles convolved(const ConvolutionCase& c, const Doubles& x, const Doubles& w) {
  Doubles y;
  for (int64_t n = 0; n < c.N; ++n) {
    for (int64_t oy = 0; oy < c.out_height(); ++oy) {
      for (int64_t ox = 0; ox < c.out_width(); ++ox) {
        for (int64_t o = 0; o < c.O; ++o) {
          double sum = 0;
          for (int64_t ky = 0; ky < c.KH; ++ky) {
            for (int64_t kx = 0; kx < c.KW; ++kx) {
              const int64_t iy = oy * c.options.stride - c.options.padding.top + ky;
              const int64_t ix = ox * c.options.stride - c.options.padding.left + kx;
              if (iy < 0 || iy >= c.H || ix < 0 || ix >= c.W) continue;
              for (int64_t i = 0; i < c.I; ++i)
                sum += x[static_cast<size_t>(((n * c.H + iy) * c.W + ix) * c.I + i)] *
                       w[static_cast<size_t>(((o * c.I + i) * c.KH + ky) * c.KW + kx)];
            }
          }
          y.push_back(sum);
        }
      }
    }
  }
  return y;
}

TEST(Gradient, OfConvolutions) {
  const ConvolutionCase cases[] = {
      {2, 5, 6, 3, 4, 3, 3, {.stride = 1, .padding = Padding::same(1)}},
      {1, 9, 7, 19, 18, 3, 3, {.stride = 1, .padding = Padding::same(1), .method = Conv2dMethod::Winograd4}},
      {1, 8, 8, 5, 7, 3, 3, {.stride = 1, .padding = Padding::same(1), .method = Conv2dMethod::Winograd2}},
      {2, 7, 6, 5, 9, 1, 1, {}},
      {1, 6, 8, 5, 7, 3, 3, {.stride = 2, .padding = {0, 0, 1, 1}}},
      {2, 9, 7, 4, 5, 4, 4, {.stride = 2, .padding = Padding::same(1)}},
      {1, 6, 7, 3, 5, 4, 4, {.stride = 1, .padding = Padding::same(1)}},
      {1, 6, 5, 2, 3, 1, 1, {.stride = 2, .padding = {}}},
      {1, 5, 4, 2, 3, 2, 3, {.stride = 3, .padding = {2, 0, 3, 1}}},
      {1, 4, 4, 2, 3, 1, 1, {.stride = 1, .padding = Padding::same(1)}},
      {1, 12, 40, 18, 21, 3, 3, {.stride = 1, .padding = Padding::same(1)}},
  };
  unsigned seed = 100;
  for (const ConvolutionCase& c : cases) {
    SCOPED_TRACE("case of seed " + std::to_string(seed + 1));
    check_gradients(
        {random_tensor({c.N, c.H, c.W, c.I}, ++seed), random_tensor({c.O, c.I, c.KH, c.KW}, ++seed)},
        [&](const auto& in) { return conv2d(in[0], in[1], {}, c.options); },
        [&](const auto& in) { return convolved(c, in[0], in[1]); }, 5e-6);
  }
}

TEST(Gradient, OfAConvolutionsBiasAddAndActivation) {
  const ConvolutionCase c{2, 4, 5, 3, 4, 3, 3, {.stride = 1, .padding = Padding::same(1)}};
  for (const bool every_pixel : {false, true}) {
    const Shape add = every_pixel ? Shape{2, 4, 5, 4} : Shape{2, 4};
    check_gradients(
        {random_tensor({2, 4, 5, 3}, 1), random_tensor({4, 3, 3, 3}, 2), random_tensor({4}, 3),
         random_tensor(add, 4)},
        [&](const auto& in) { return conv2d(in[0], in[1], in[2], c.options, in[3], Activation::Silu); },
        [&](const auto& in) {
          Doubles y = convolved(c, in[0], in[1]);
          for (size_t i = 0; i < y.size(); ++i) {
            y[i] += in[2][i % 4] + in[3][every_pixel ? i : i / 80 * 4 + i % 4];
            y[i] /= 1 + std::exp(-y[i]);
          }
          return y;
        });
  }
}

/// Elements that are normalised together: of x as [outer, n] after `place` says where each lies.
Doubles normalised(const Doubles& x, size_t outer, size_t n,
                   const std::function<size_t(size_t, size_t)>& place, bool centered, double eps) {
  Doubles y(x.size());
  for (size_t o = 0; o < outer; ++o) {
    double mean = 0, square = 0;
    for (size_t i = 0; centered && i < n; ++i) mean += x[place(o, i)] / static_cast<double>(n);
    for (size_t i = 0; i < n; ++i) square += std::pow(x[place(o, i)] - mean, 2) / static_cast<double>(n);
    for (size_t i = 0; i < n; ++i) y[place(o, i)] = (x[place(o, i)] - mean) / std::sqrt(square + eps);
  }
  return y;
}

Doubles weighed(Doubles y, const Doubles& w, const Doubles& b) {
  for (size_t i = 0; i < y.size(); ++i) y[i] = y[i] * w[i % w.size()] + (b.empty() ? 0 : b[i % b.size()]);
  return y;
}

TEST(Gradient, OfLayerNormAndRmsNorm) {
  for (const int64_t D : {7, 40}) {
    for (const float mean : {0.0f, 3.0f}) {
      const auto rows = [D](const Doubles& x, bool centered) {
        const auto n = static_cast<size_t>(D);
        return normalised(
            x, x.size() / n, n, [n](size_t o, size_t i) { return o * n + i; }, centered,
            static_cast<double>(1e-5f));
      };
      const Tensor x = random_tensor({3, 67, D}, 1, 1, mean), w = random_tensor({D}, 2),
                   b = random_tensor({D}, 3);
      check_gradients(
          {x, w, b}, [](const auto& in) { return layer_norm(in[0], in[1], in[2], 1e-5f); },
          [&](const auto& in) { return weighed(rows(in[0], true), in[1], in[2]); }, 1e-5);
      check_gradients(
          {x, w}, [](const auto& in) { return rms_norm(in[0], in[1], 1e-5f); },
          [&](const auto& in) { return weighed(rows(in[0], false), in[1], {}); }, 1e-5);
      check_gradients(
          {x}, [](const auto& in) { return layer_norm(in[0], {}, {}, 1e-5f); },
          [&](const auto& in) { return rows(in[0], true); }, 1e-5);
    }
  }
}

TEST(Gradient, OfGroupNorm) {
  for (const Activation activation : {Activation::None, Activation::Silu}) {
    for (const float mean : {0.0f, 5.0f}) {
      const size_t N = 2, P = 23 * 15, C = 12, groups = 3, width = C / groups;
      const Tensor x = random_tensor({2, 23, 15, 12}, 1, 1, mean), w = random_tensor({12}, 2),
                   b = random_tensor({12}, 3);
      check_gradients(
          {x, w, b}, [&](const auto& in) { return group_norm(in[0], 3, in[1], in[2], 1e-5f, activation); },
          [&](const auto& in) {
            const auto place = [&](size_t o, size_t i) {
              return (o / groups * P + i / width) * C + o % groups * width + i % width;
            };
            Doubles y =
                weighed(normalised(in[0], N * groups, P * width, place, true, static_cast<double>(1e-5f)),
                        in[1], in[2]);
            for (double& v : y) v = activation == Activation::Silu ? v / (1 + std::exp(-v)) : v;
            return y;
          },
          1e-5);
    }
  }
}

TEST(Gradient, OfBatchNorm) {
  check_gradients(
      {random_tensor({3, 4, 5, 9}, 1, 1, 2), random_tensor({9}, 2), random_tensor({9}, 3)},
      [](const auto& in) { return batch_norm(in[0], in[1], in[2], 1e-5f); },
      [](const auto& in) {
        const auto place = [](size_t o, size_t i) { return i * 9 + o; };
        return weighed(normalised(in[0], 9, 60, place, true, static_cast<double>(1e-5f)), in[1], in[2]);
      },
      1e-5);
}

struct AttentionCase {
  int64_t B, T, S, D;
  AttentionOptions options;
  Shape bias = {0};
};

Doubles attended(const AttentionCase& c, const Doubles& q, const Doubles& k, const Doubles& v,
                 const Tensor& bias) {
  const int64_t H = c.options.heads, wide = H * c.D;
  const double scale =
      c.options.scale != 0 ? static_cast<double>(c.options.scale) : 1 / std::sqrt(static_cast<double>(c.D));
  Doubles y(q.size());
  for (int64_t b = 0; b < c.B; ++b) {
    for (int64_t h = 0; h < H; ++h) {
      for (int64_t t = 0; t < c.T; ++t) {
        const int64_t keys = c.options.causal ? std::min(c.S, t + 1) : c.S;
        Doubles p;
        double total = 0;
        for (int64_t s = 0; s < keys; ++s) {
          double score = 0;
          for (int64_t i = 0; i < c.D; ++i)
            score += q[static_cast<size_t>((b * c.T + t) * wide + h * c.D + i)] *
                     k[static_cast<size_t>((b * c.S + s) * wide + h * c.D + i)] * scale;
          if (bias) {
            const int64_t of = (bias.dim(0) > 1 ? b * bias.dim(1) : 0) + (bias.dim(1) > 1 ? h : 0);
            score += static_cast<double>(bias.data<float>()[(of * c.T + t) * c.S + s]);
          }
          p.push_back(std::exp(score));
          total += p.back();
        }
        for (int64_t s = 0; s < keys; ++s) {
          for (int64_t i = 0; i < c.D; ++i)
            y[static_cast<size_t>((b * c.T + t) * wide + h * c.D + i)] +=
                p[static_cast<size_t>(s)] / total *
                v[static_cast<size_t>((b * c.S + s) * wide + h * c.D + i)];
        }
      }
    }
  }
  return y;
}

TEST(Gradient, OfAttention) {
  const AttentionCase cases[] = {
      {2, 5, 7, 4, {.heads = 3}},
      {1, 70, 33, 8, {.heads = 2}},
      {1, 67, 67, 5, {.heads = 1, .causal = true}},
      {2, 9, 11, 6, {.heads = 2, .scale = 0.3f}, {1, 2, 9, 11}},
      {2, 9, 11, 6, {.heads = 2, .scale = 0.3f}, {2, 1, 9, 11}},
  };
  for (const AttentionCase& c : cases) {
    const int64_t wide = c.options.heads * c.D;
    const Tensor bias = c.bias.numel() > 0 ? random_tensor(c.bias, 4) : Tensor();
    check_gradients(
        {random_tensor({c.B, c.T, wide}, 1), random_tensor({c.B, c.S, wide}, 2),
         random_tensor({c.B, c.S, wide}, 3)},
        [&](const auto& in) { return attention(in[0], in[1], in[2], c.options, bias); },
        [&](const auto& in) { return attended(c, in[0], in[1], in[2], bias); }, 5e-6);
  }
}

// The memory that the gradients get held NaN before.
TEST(AttentionGradient, OfKeysWithoutQueriesIsZero) {
  const Shape of_keys{1, 3, 4};
  const Tensor k = make_leaf(random_tensor(of_keys, 1)), v = make_leaf(random_tensor(of_keys, 2));
  const RecordGradients on;
  const Tensor y = attention(Tensor::empty({1, 0, 4}), k, v, {.heads = 2});
  { const Tensor a = full(of_keys, NAN), b = full(of_keys, NAN), c = full(of_keys, NAN); }
  backward(y, Tensor::empty({1, 0, 4}));
  for (const Tensor& leaf : {k, v})
    for (const float gradient : gradient_of(leaf).values<float>()) EXPECT_EQ(gradient, 0);
}

TEST(Gradient, OfEmbedding) {
  const std::vector<int32_t> ids{4, 0, 4, 2, 4, 0, 5};
  check_gradients(
      {random_tensor({6, 5}, 1)},
      [&](const auto& in) { return embedding(in[0], Tensor::from<int32_t>({7}, ids)); },
      [&](const auto& in) {
        Doubles y;
        for (const int32_t id : ids) {
          for (size_t c = 0; c < 5; ++c) y.push_back(in[0][static_cast<size_t>(id) * 5 + c]);
        }
        return y;
      });
}

// A linear function: its gradient is held to its own values at unit vectors, which its forward tests verify.
TEST(Gradient, OfResize) {
  struct Case {
    ResizeFilter filter;
    bool antialias;
    int64_t height, width;
  };
  const Case cases[] = {{ResizeFilter::Nearest, false, 8, 15}, {ResizeFilter::Nearest, false, 5, 3},
                        {ResizeFilter::Bilinear, false, 7, 3}, {ResizeFilter::Bilinear, true, 2, 3},
                        {ResizeFilter::Bicubic, false, 9, 4},  {ResizeFilter::Bicubic, true, 3, 2},
                        {ResizeFilter::Area, false, 3, 2}};
  const Shape shape{2, 4, 5, 3};
  for (const Case& c : cases) {
    const auto op = [&](const Tensor& x) { return resize(x, c.height, c.width, c.filter, c.antialias); };
    check_gradients(
        {random_tensor(shape, 1)}, [&](const auto& in) { return op(in[0]); },
        [&](const auto& in) {
          Doubles y(static_cast<size_t>(2 * c.height * c.width * 3));
          for (size_t i = 0; i < in[0].size(); ++i) {
            std::vector<float> unit(in[0].size());
            unit[i] = 1;
            const Doubles column = doubles(op(Tensor::from(shape, unit)));
            for (size_t k = 0; k < y.size(); ++k) y[k] += column[k] * in[0][i];
          }
          return y;
        });
  }
}

TEST(Gradient, OfMaxPool) {
  check_gradients(
      {random_tensor({2, 5, 6, 3}, 1)}, [](const auto& in) { return max_pool2(in[0]); },
      [](const auto& in) {
        Doubles y;
        for (size_t n = 0; n < 2; ++n) {
          for (size_t i = 0; i < 2 * 3 * 3; ++i) {
            const size_t oy = i / 9, ox = i / 3 % 3, c = i % 3;
            const auto at = [&](size_t dy, size_t dx) {
              return in[0][((n * 5 + 2 * oy + dy) * 6 + 2 * ox + dx) * 3 + c];
            };
            y.push_back(std::max(std::max(at(0, 0), at(0, 1)), std::max(at(1, 0), at(1, 1))));
          }
        }
        return y;
      });
}

TEST(Gradient, OfMoments) {
  for (const bool variance : {false, true}) {
    check_gradients(
        {random_tensor({3, 4, 5}, 1, 1, 2)},
        [&](const auto& in) {
          const Moments m = moments(in[0], 1);
          return variance ? m.variance : m.mean;
        },
        [&](const auto& in) {
          Doubles y;
          for (size_t n = 0; n < 3; ++n) {
            double mean = 0, squares = 0;
            for (size_t i = 0; i < 20; ++i) mean += in[0][n * 20 + i] / 20;
            for (size_t i = 0; i < 20; ++i) squares += std::pow(in[0][n * 20 + i] - mean, 2) / 19;
            y.push_back(variance ? squares : mean);
          }
          return y;
        });
  }
}

}  // namespace
}  // namespace sinopia
