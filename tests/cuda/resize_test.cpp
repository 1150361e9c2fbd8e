#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "sinopia/backend/recorded_call.h"
#include "tests/cuda/on_gpu.h"

namespace sinopia {
namespace {

using namespace testing;

struct Kind {
  ResizeFilter filter;
  bool antialias;
};
constexpr Kind kKinds[] = {{ResizeFilter::Nearest, false}, {ResizeFilter::Bilinear, false},
                           {ResizeFilter::Bicubic, false}, {ResizeFilter::Area, false},
                           {ResizeFilter::Bilinear, true}, {ResizeFilter::Bicubic, true}};

class CudaResize : public OnGpu {
 protected:
  Tensor there_resized(const Tensor& x, DType dtype, int64_t OH, int64_t OW, Kind kind) const {
    Tensor y = empty({x.dim(0), OH, OW, x.dim(3)}, dtype);
    gpu().resize(there(x, dtype), kind.filter, kind.antialias, y);
    return back(y);
  }
  static Tensor here_resized(const Tensor& x, int64_t OH, int64_t OW, Kind kind) {
    Tensor y = Tensor::empty({x.dim(0), OH, OW, x.dim(3)});
    cpu_kernels().resize(x, kind.filter, kind.antialias, y);
    return y;
  }
  void check(const Shape& shape, int64_t OH, int64_t OW) const {
    for (const Kind kind : kKinds) {
      for (const DType dtype : kFloats) {
        SCOPED_TRACE(fmt::format("{} to {}x{}, filter {}, antialias {}, {}", to_string(shape), OH, OW,
                                 static_cast<int>(kind.filter), kind.antialias, to_string(dtype)));
        const Tensor x = rounded_to(random_tensor(shape, 1), dtype);
        const Tensor y = there_resized(x, dtype, OH, OW, kind), expected = here_resized(x, OH, OW, kind);
        if (kind.filter == ResizeFilter::Nearest) {
          EXPECT_TRUE(same_bits(y, expected));
        } else {
          // The same operations, but for processors that do not fuse them; then one rounding.
          expect_close(y, doubles(expected), 16 * kEpsilon,
                       dtype == DType::F32 ? 0 : 1.01 * epsilon_of(dtype));
        }
      }
    }
  }
};

TEST_F(CudaResize, IsThatOfTheCpu) {
  check({2, 5, 7, 3}, 9, 4);     // one up, one down
  check({1, 6, 5, 16}, 12, 10);  // twice
  check({1, 6, 5, 8}, 12, 9);    // twice along one axis only
  check({1, 6, 5, 8}, 11, 10);
  check({1, 31, 20, 4}, 3, 5);  // many taps
  check({2, 3, 4, 24}, 1, 1);
  check({1, 1, 1, 5}, 4, 3);
  check({1, 4, 3, 6}, 4, 3);
  check({1, 3, 13, 2}, 8, 97);
}

TEST_F(CudaResize, LongRows) { check({1, 2, 300, 4}, 3, 601); }

TEST_F(CudaResize, ManyRows) { check({3, 40, 2, 8}, 80, 4); }

TEST_F(CudaResize, TwiceAtEveryPieceSize) {
  for (const DType dtype : kFloats) {
    for (const int64_t C : {1, 2, 3, 4, 5, 8, 12, 40}) {
      const Tensor x = rounded_to(random_tensor({2, 3, 5, C}, 2), dtype);
      const Kind nearest{ResizeFilter::Nearest, false};
      EXPECT_TRUE(same_bits(there_resized(x, dtype, 6, 10, nearest), here_resized(x, 6, 10, nearest))) << C;
      EXPECT_TRUE(same_bits(there_resized(x, dtype, 7, 3, nearest), here_resized(x, 7, 3, nearest))) << C;
    }
  }
}

// Every scale of sizes up to 40, since positions are rounded products.
TEST_F(CudaResize, NearestPositions) {
  for (int64_t in = 1; in <= 40; in += 3) {
    Tensor x = Tensor::empty({1, 1, in, 1});
    for (int64_t i = 0; i < in; ++i) x.data<float>()[i] = static_cast<float>(i);
    for (int64_t out = 1; out <= 41; out += 2) {
      const Kind nearest{ResizeFilter::Nearest, false};
      EXPECT_TRUE(same_bits(there_resized(x, DType::F32, 1, out, nearest), here_resized(x, 1, out, nearest)))
          << in << " to " << out;
    }
  }
}

// A view need not begin at a multiple of 16 bytes.
TEST_F(CudaResize, FromTheMiddleOfATensor) {
  for (const Kind kind : kKinds) {
    const Tensor all = random_tensor({3, 1, 9, 8}, 3);
    const Tensor odd = all.reshape({216}).slice(5, 5 + 192).reshape({1, 4, 6, 8});
    const Tensor there_odd = there(all.reshape({216})).slice(5, 5 + 192).reshape({1, 4, 6, 8});
    for (const auto& [OH, OW] : {std::pair<int64_t, int64_t>{8, 12}, {3, 5}, {1, 1}}) {
      Tensor target = empty({OH * OW * 8 + 3}), y = target.slice(3, target.numel()).reshape({1, OH, OW, 8});
      gpu().resize(there_odd, kind.filter, kind.antialias, y);
      expect_close(back(y), doubles(here_resized(odd, OH, OW, kind)), 16 * kEpsilon, 0);
    }
  }
}

TEST_F(CudaResize, NaNAndInfinitySpreadAsOnTheCpu) {
  for (const Kind kind : kKinds) {
    for (const DType dtype : kFloats) {
      Tensor x = rounded_to(random_tensor({1, 9, 8, 2}, 4), dtype);
      x.data<float>()[40] = std::numeric_limits<float>::quiet_NaN();
      x.data<float>()[103] = std::numeric_limits<float>::infinity();
      for (const auto& [OH, OW] : {std::pair<int64_t, int64_t>{18, 16}, {4, 5}, {13, 3}})
        expect_close(there_resized(x, dtype, OH, OW, kind), doubles(here_resized(x, OH, OW, kind)),
                     16 * kEpsilon, dtype == DType::F32 ? 0 : 1.01 * epsilon_of(dtype));
    }
  }
}

TEST_F(CudaResize, NothingOfNothing) {
  for (const Kind kind : kKinds) {
    for (const Shape& shape : {Shape{0, 3, 3, 4}, Shape{2, 3, 3, 0}})
      EXPECT_EQ(there_resized(Tensor::empty(shape), DType::F32, 6, 6, kind).numel(), 0);
  }
}

TEST_F(CudaResize, CanBeRecorded) {
  for (const Kind kind : kKinds) {
    RecordedCall call;
    for (unsigned seed = 1; seed <= 4; ++seed) {
      const Tensor x = random_tensor({1, 20, 7, 8}, seed), there_x = there(x);
      const auto y = call(std::vector{there_x}, [&](std::span<const Tensor> in) {
        Tensor result = empty({1, 4, 14, 8});
        gpu().resize(in[0], kind.filter, kind.antialias, result);
        return std::vector{result};
      });
      expect_close(back(y[0]), doubles(here_resized(x, 4, 14, kind)), 16 * kEpsilon, 0);
    }
    EXPECT_TRUE(call.replayed());
  }
}

class CudaTimestepEmbedding : public OnGpu {};

TEST_F(CudaTimestepEmbedding, IsThatOfTheCpu) {
  struct Case {
    int64_t count, D;
    bool cos_first;
    float shift, max_period;
  };
  const Case cases[] = {{5, 320, true, 0, 10000},
                        {3, 33, false, 1, 10000},
                        {7, 2, true, 0, 300},
                        {1, 256, false, 0.5f, 1e6f},
                        {0, 8, true, 0, 10000}};
  for (const Case& c : cases) {
    for (const DType dtype : kFloats) {
      for (const DType of_t : {dtype, DType::F32}) {
        Tensor t = random_tensor({c.count}, 5, 400, 500);
        if (c.count > 2) t.data<float>()[1] = 999, t.data<float>()[2] = 0;
        t = rounded_to(t, of_t);
        Tensor expected = Tensor::empty({c.count, c.D}), y = empty({c.count, c.D}, dtype);
        cpu_kernels().timestep_embedding(t, c.cos_first, c.shift, c.max_period, expected);
        gpu().timestep_embedding(there(t, of_t), c.cos_first, c.shift, c.max_period, y);
        // Double rounded to f32 at both sides: at most the last bit may differ.
        expect_close(back(y), doubles(expected), 1e-30,
                     2 * kEpsilon + (dtype == DType::F32 ? 0 : 1.01 * epsilon_of(dtype)));
      }
    }
  }
}

TEST_F(CudaTimestepEmbedding, NaNStays) {
  Tensor t = Tensor::from({2}, std::vector<float>{std::numeric_limits<float>::quiet_NaN(), 1});
  Tensor y = empty({2, 9});
  gpu().timestep_embedding(there(t), true, 0, 10000, y);
  const std::vector<double> values = doubles(back(y));
  for (size_t i = 0; i < 18; ++i) EXPECT_EQ(std::isnan(values[i]), i < 8) << i;
}

}  // namespace
}  // namespace sinopia
