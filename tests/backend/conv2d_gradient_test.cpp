#include <cmath>
#include <cstring>

#include "sinopia/backend/kernels.h"
#include "tests/instruction_sets.h"
#include "tests/reference.h"

namespace sinopia {
namespace {

using namespace testing;

struct Case {
  int64_t N, H, W, I, O;
  Padding padding = Padding::same(1);
};

/// [O,I,3,3] in double.
std::vector<double> weight_gradient(const Case& c, const Tensor& x, const Tensor& dy) {
  const int64_t OH = dy.dim(1), OW = dy.dim(2);
  const std::vector<double> xs = doubles(x), ds = doubles(dy);
  std::vector<double> dw(static_cast<size_t>(c.O * c.I * 9));
  for (int64_t n = 0; n < c.N; ++n) {
    for (int64_t y = 0; y < OH; ++y) {
      for (int64_t z = 0; z < OW; ++z) {
        for (int64_t ky = 0; ky < 3; ++ky) {
          for (int64_t kx = 0; kx < 3; ++kx) {
            const int64_t iy = y + ky - c.padding.top, ix = z + kx - c.padding.left;
            if (iy < 0 || iy >= c.H || ix < 0 || ix >= c.W) continue;
            const double* from = xs.data() + ((n * c.H + iy) * c.W + ix) * c.I;
            const double* d = ds.data() + ((n * OH + y) * OW + z) * c.O;
            for (int64_t o = 0; o < c.O; ++o)
              for (int64_t i = 0; i < c.I; ++i)
                dw[static_cast<size_t>(((o * c.I + i) * 3 + ky) * 3 + kx)] += d[o] * from[i];
          }
        }
      }
    }
  }
  return dw;
}

class WeightGradient : public ::testing::TestWithParam<Conv2dMethod> {};

// Sums of n products of standard normal numbers have a deviation of sqrt(n), and an error of about
// sqrt(n) epsilon of each; minimal filtering adds numbers that are up to a few times as large.
TEST_P(WeightGradient, IsTheSumOverAllPixels) {
  const Case cases[] = {
      {1, 4, 4, 1, 1},
      {2, 5, 7, 3, 5},
      {3, 9, 6, 19, 26},
      {1, 1, 1, 4, 4},
      {2, 33, 21, 25, 49},             // several groups of tiles, panels and blocks, all with a rest
      {1, 8, 9, 11, 7, {0, 2, 1, 0}},  // padding that differs
      {1, 7, 8, 130, 9},
      {16, 8, 8, 48, 40},
  };
  unsigned seed = 1;
  for (const Case& c : cases) {
    SCOPED_TRACE(::testing::Message() << c.N << "x" << c.H << "x" << c.W << " " << c.I << " > " << c.O);
    const int64_t OH = c.H + c.padding.top + c.padding.bottom - 2,
                  OW = c.W + c.padding.left + c.padding.right - 2;
    const Tensor x = random_tensor({c.N, c.H, c.W, c.I}, ++seed),
                 dy = random_tensor({c.N, OH, OW, c.O}, ++seed);
    const std::vector<double> want = weight_gradient(c, x, dy);
    const auto terms = static_cast<double>(c.N * OH * OW);
    const double bound = 60 * kEpsilon * std::sqrt(terms) * (1 + std::log2(terms));
    for_each_instruction_set([&] {
      Tensor first;
      for (const int threads : {1, 2, 3}) {
        set_thread_count(threads);
        Tensor dw = Tensor::empty({c.O, c.I, 3, 3});
        std::memset(dw.raw(), 0xff, dw.bytes());
        kernels(Device{}).conv2d_backward_weight(
            x, dy, {.stride = 1, .padding = c.padding, .method = GetParam()}, dw);
        expect_close(dw, want, bound, 0);
        if (!first) first = dw;
        EXPECT_EQ(std::memcmp(dw.raw(), first.raw(), dw.bytes()), 0) << threads << " threads";
      }
      set_thread_count(0);
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, WeightGradient,
                         ::testing::Values(Conv2dMethod::Direct, Conv2dMethod::Winograd2,
                                           Conv2dMethod::Winograd4, Conv2dMethod::Auto));

}  // namespace
}  // namespace sinopia
