#include "sinopia/ops/resize.h"

#include <algorithm>
#include <functional>

#include "tests/instruction_sets.h"
#include "tests/reference.h"

namespace sinopia {
namespace {

using namespace testing;

constexpr ResizeFilter kFilters[] = {ResizeFilter::Nearest, ResizeFilter::Bilinear, ResizeFilter::Bicubic,
                                     ResizeFilter::Area};

double cubic(double t, double a) {
  t = std::abs(t);
  if (t <= 1) return (a + 2) * t * t * t - (a + 3) * t * t + 1;
  if (t < 2) return a * (t * t * t - 5 * t * t + 8 * t - 4);
  return 0;
}

// The weight of input i in output o along one axis, from the definition of each filter.
double weight(ResizeFilter filter, bool antialias, int64_t in, int64_t out, int64_t i, int64_t o) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  const auto at = static_cast<double>(o);
  const bool is_cubic = filter == ResizeFilter::Bicubic;
  if (filter == ResizeFilter::Nearest) return o * in / out == i;
  if (filter == ResizeFilter::Area) {
    const int64_t begin = o * in / out, end = ((o + 1) * in + out - 1) / out;
    return i >= begin && i < end ? 1 / static_cast<double>(end - begin) : 0;
  }
  if (antialias) {
    const double stretch = std::max(scale, 1.0), support = (is_cubic ? 2 : 1) * stretch,
                 center = scale * (at + 0.5);
    const int64_t begin = std::max<int64_t>(0, static_cast<int64_t>(center - support + 0.5));
    const int64_t end = std::min(in, static_cast<int64_t>(center + support + 0.5));
    const auto kernel = [&](int64_t k) {
      const double t = (static_cast<double>(k) + 0.5 - center) / stretch;
      return is_cubic ? cubic(t, -0.5) : std::max(0.0, 1 - std::abs(t));
    };
    double total = 0;
    for (int64_t k = begin; k < end; ++k) total += kernel(k);
    return i >= begin && i < end ? kernel(i) / total : 0;
  }
  const double position = scale * (at + 0.5) - 0.5;
  double result = 0;  // positions beyond the edge add to the edge's weight
  for (int64_t k = -3; k < in + 3; ++k) {
    if (std::clamp<int64_t>(k, 0, in - 1) != i) continue;
    const double t = static_cast<double>(k) - position;
    result += is_cubic ? cubic(t, -0.75) : std::max(0.0, 1 - std::abs(t));
  }
  return result;
}

std::vector<double> exact_resize(const Tensor& x, int64_t OH, int64_t OW, ResizeFilter filter,
                                 bool antialias) {
  const int64_t N = x.dim(0), H = x.dim(1), W = x.dim(2), C = x.dim(3);
  const std::vector<double> v = doubles(x);
  std::vector<double> y;
  for (int64_t n = 0; n < N; ++n) {
    for (int64_t oh = 0; oh < OH; ++oh) {
      for (int64_t ow = 0; ow < OW; ++ow) {
        for (int64_t c = 0; c < C; ++c) {
          double sum = 0;
          for (int64_t h = 0; h < H; ++h) {
            const double row = weight(filter, antialias, H, OH, h, oh);
            if (row == 0) continue;
            for (int64_t w = 0; w < W; ++w) {
              sum += row * weight(filter, antialias, W, OW, w, ow) *
                     v[static_cast<size_t>(((n * H + h) * W + w) * C + c)];
            }
          }
          y.push_back(sum);
        }
      }
    }
  }
  return y;
}

TEST(Resize, MatchesTheDefinitionOfEachFilter) {
  struct Case {
    Shape x;
    int64_t height, width;
  };
  for_each_instruction_set([] {
    for (const Case& c : {Case{{2, 5, 7, 3}, 5, 7}, Case{{1, 5, 7, 3}, 10, 14}, Case{{1, 8, 6, 9}, 4, 3},
                          Case{{1, 13, 11, 4}, 5, 3}, Case{{1, 5, 4, 1}, 13, 9}, Case{{1, 1, 1, 2}, 3, 4},
                          Case{{2, 9, 17, 8}, 1, 1}, Case{{1, 3, 17, 5}, 7, 4}}) {
      const Tensor x = random_tensor(c.x, 3);
      for (ResizeFilter filter : kFilters) {
        for (bool antialias : {false, true}) {
          if (antialias && (filter == ResizeFilter::Nearest || filter == ResizeFilter::Area)) continue;
          const Tensor y = resize(x, c.height, c.width, filter, antialias);
          EXPECT_EQ(y.shape(), (Shape{c.x.dim(0), c.height, c.width, c.x.dim(3)}));
          // A source position carries a rounding of its size, at most 17, which moves the weights.
          expect_close(y, exact_resize(x, c.height, c.width, filter, antialias), 17 * 16 * kEpsilon, 0);
        }
      }
    }
  });
}

TEST(Resize, UpsampleRepeatsPixels) {
  const Tensor x = random_tensor({2, 3, 5, 7}, 1);
  for (int factor : {1, 2, 3}) {
    const Tensor y = upsample_nearest(x, factor);
    ASSERT_EQ(y.shape(), (Shape{2, 3 * factor, 5 * factor, 7}));
    for (int64_t i = 0; i < y.numel(); ++i) {
      const int64_t c = i % 7, w = i / 7 % y.dim(2) / factor, h = i / 7 / y.dim(2) % y.dim(1) / factor;
      const int64_t n = i / 7 / y.dim(2) / y.dim(1);
      ASSERT_EQ(y.data<float>()[i], x.data<float>()[((n * 3 + h) * 5 + w) * 7 + c]);
    }
  }
}

TEST(Resize, SameBitsForAnyThreadCount) {
  const Tensor x = random_tensor({2, 101, 97, 3}, 1);
  for (ResizeFilter filter : kFilters) {
    expect_same_for_any_thread_count([&] { return resize(x, 211, 150, filter); });
  }
  expect_same_for_any_thread_count([&] { return resize(x, 40, 50, ResizeFilter::Bicubic, true); });
}

TEST(Resize, EmptyAndErrors) {
  const Tensor x = random_tensor({1, 4, 4, 3}, 1);
  EXPECT_EQ(resize(x.slice(0, 0), 2, 2, ResizeFilter::Bilinear).shape(), (Shape{0, 2, 2, 3}));
  EXPECT_EQ(resize(Tensor::empty({1, 4, 4, 0}), 2, 2, ResizeFilter::Nearest).shape(), (Shape{1, 2, 2, 0}));
  expect_error(ErrorKind::InvalidArgument, "[resize] expected a target of at least 1x1, got 0x4",
               [&] { resize(x, 0, 4, ResizeFilter::Nearest); });
  expect_error(ErrorKind::InvalidArgument, "[resize] expected at least one pixel, got x=[1,0,4,3]", [&] {
    resize(Tensor::empty({1, 0, 4, 3}), 2, 2, ResizeFilter::Nearest);
  });
  expect_error(ErrorKind::InvalidArgument, "[resize] expected the bilinear or bicubic filter",
               [&] { resize(x, 2, 2, ResizeFilter::Area, true); });
  expect_error(ErrorKind::InvalidArgument, "[resize] expected x with 4 axes", [&] {
    resize(x.reshape({4, 4, 3}), 2, 2, ResizeFilter::Area);
  });
  expect_error(ErrorKind::InvalidArgument, "[upsample_nearest] expected a factor >= 1, got 0",
               [&] { upsample_nearest(x, 0); });
}

}  // namespace
}  // namespace sinopia
