#include <algorithm>
#include <limits>

#include "tests/cuda/on_gpu.h"

namespace sinopia {
namespace {

using namespace testing;

constexpr float kInf = std::numeric_limits<float>::infinity(), kNaN = std::numeric_limits<float>::quiet_NaN();

class CudaReduce : public OnGpu {
 protected:
  /// x from the second element of its storage on, which no wide access can read.
  Tensor displaced(const Tensor& x, DType dtype) const {
    std::vector<float> values(static_cast<size_t>(x.numel() + 1));
    std::copy_n(x.data<float>(), x.numel(), values.begin() + 1);
    const Tensor all = there(Tensor::from({x.numel() + 1}, values), dtype);
    return all.slice(1, x.numel() + 1).reshape(x.shape());
  }
  Tensor softmax(const Tensor& x) const {
    Tensor y = empty(x.shape(), x.dtype());
    gpu().softmax(x, y);
    return back(y);
  }
};

std::vector<double> exact_softmax(const Tensor& x) {
  std::vector<double> v = doubles(x);
  const auto D = static_cast<size_t>(x.dim(-1));
  for (size_t row = 0; row < v.size() / D; ++row) {
    const auto begin = v.begin() + static_cast<std::ptrdiff_t>(row * D), end = begin + x.dim(-1);
    const double largest = *std::max_element(begin, end);
    double sum = 0;
    for (auto i = begin; i < end; ++i) sum += * i = std::exp(*i - largest);
    for (auto i = begin; i < end; ++i) *i /= sum;
  }
  return v;
}

TEST_F(CudaReduce, SoftmaxMatchesTheFormula) {
  for (int64_t D : {1, 2, 7, 8, 77, 256, 257, 320, 1280, 1304, 2048, 2056, 4097, 20000}) {
    for (DType dtype : kFloats) {
      SCOPED_TRACE(::testing::Message() << D << " " << to_string(dtype));
      const Tensor x = rounded_to(random_tensor({2, 2, D}, static_cast<unsigned>(D), 3, 5), dtype);
      // x less the largest is rounded, some 25 times this relative to its exponential.
      const double error = (dtype == DType::F32 ? 40 * kEpsilon : 2 * epsilon_of(dtype));
      const double tiny = dtype == DType::F16 ? 0x1p-25 : 0;  // f16 has few numbers below 6e-5
      expect_close(softmax(there(x, dtype)), exact_softmax(x), tiny, error);
    }
  }
  const Tensor x = random_tensor({500, 12}, 1, 30);
  expect_close(softmax(there(x)), exact_softmax(x), 1e-30, 200 * kEpsilon);
  expect_close(softmax(displaced(x, DType::F32)), exact_softmax(x), 1e-30, 200 * kEpsilon);
  EXPECT_EQ(softmax(there(Tensor::empty({0, 3}))).numel(), 0);
  EXPECT_EQ(softmax(there(Tensor::empty({3, 0}))).numel(), 0);
}

TEST_F(CudaReduce, SoftmaxOfInfinitiesIsTheCpus) {
  for (int64_t D : {5, 64, 3000, 3001}) {
    Tensor x = random_tensor({5, D}, 1);
    float* const v = x.data<float>();
    std::fill_n(v, D, -kInf);
    v[D + 1] = -kInf;
    v[2 * D + 3] = kInf;
    v[3 * D + 4] = kNaN;
    Tensor expected = Tensor::empty(x.shape());
    cpu_kernels().softmax(x, expected);
    for (DType dtype : kFloats) {
      const Tensor y = softmax(there(x, dtype));
      for (int64_t i = 0; i < x.numel(); ++i)
        ASSERT_EQ(std::isnan(y.data<float>()[i]), std::isnan(expected.data<float>()[i])) << i;
      EXPECT_EQ(y.data<float>()[D + 1], 0);
    }
  }
}

TEST_F(CudaReduce, MomentsMatchTheFormula) {
  for (const Shape& shape : {Shape{1, 2}, Shape{3, 7}, Shape{2, 5, 4, 3}, Shape{2, 16, 64}, Shape{2, 30003},
                             Shape{1, 60000}, Shape{40, 8}}) {
    for (DType dtype : kFloats) {
      for (int correction : {0, 1}) {
        SCOPED_TRACE(::testing::Message() << to_string(shape) << " " << to_string(dtype));
        const Tensor x = rounded_to(random_tensor(shape, 3, 2, 50), dtype);
        const std::vector<double> v = doubles(x);
        const auto N = static_cast<size_t>(shape.dim(0)), count = v.size() / N;
        std::vector<double> means, variances;
        for (size_t n = 0; n < N; ++n) {
          double mean = 0, squares = 0;
          for (size_t i = 0; i < count; ++i) mean += v[n * count + i];
          mean /= static_cast<double>(count);
          for (size_t i = 0; i < count; ++i) squares += std::pow(v[n * count + i] - mean, 2);
          means.push_back(mean);
          variances.push_back(squares / static_cast<double>(count - static_cast<size_t>(correction)));
        }
        Tensor mean = empty({shape.dim(0)}, dtype), variance = empty({shape.dim(0)}, dtype);
        gpu().moments(there(x, dtype), correction, mean, variance);
        expect_close(back(mean), means, 0, epsilon_of(dtype) * 1.001);
        expect_close(back(variance), variances, 0, epsilon_of(dtype) * 1.001);
      }
    }
  }
}

TEST_F(CudaReduce, MomentsStayExactBesideALargeMean) {
  const Tensor x = random_tensor({1, 30001}, 3, 1, 1e6f);
  Tensor expected_mean = Tensor::empty({1}), expected = Tensor::empty({1}), mean = empty({1}),
         variance = empty({1});
  cpu_kernels().moments(x, 1, expected_mean, expected);
  gpu().moments(there(x), 1, mean, variance);
  expect_close(back(mean), doubles(expected_mean), 0, 0);
  expect_close(back(variance), doubles(expected), 0, 2 * kEpsilon);
}

TEST_F(CudaReduce, MomentsOfSpecialNumbersAreTheCpus) {
  for (int64_t count : {0, 1, 40}) {
    for (int64_t at : {0, 20}) {
      for (float special : {1.0f, kInf, -kInf, kNaN}) {
        Tensor x = random_tensor({2, count}, 1);
        if (at < count) x.data<float>()[count + at] = special;
        Tensor expected_mean = Tensor::empty({2}), expected = Tensor::empty({2}), mean = empty({2}),
               variance = empty({2});
        cpu_kernels().moments(x, 1, expected_mean, expected);
        gpu().moments(there(x), 1, mean, variance);
        expect_close(back(mean), doubles(expected_mean), 0, kEpsilon * 2);
        expect_close(back(variance), doubles(expected), 0, kEpsilon * 2);
      }
    }
  }
  Tensor none = empty({0});
  gpu().moments(empty({0, 3}), 0, none, none);
}

TEST_F(CudaReduce, SumOfSquares) {
  for (int64_t n : {0, 1, 7, 4096, 100003}) {
    const Tensor x = random_tensor({n}, 5, 3);
    for (DType dtype : kFloats) {
      double expected = 0;
      for (double v : doubles(rounded_to(x, dtype))) expected += v * v;
      EXPECT_NEAR(gpu().sum_of_squares(there(x, dtype)), expected, 1e-12 * expected);
      EXPECT_NEAR(gpu().sum_of_squares(displaced(x, dtype)), expected, 1e-12 * expected);
    }
  }
  EXPECT_TRUE(std::isnan(gpu().sum_of_squares(there(Tensor::from({2}, std::vector<float>{1, kNaN})))));
}

TEST_F(CudaReduce, AllFiniteFindsOneBadNumberAnywhere) {
  for (DType dtype : kFloats) {
    for (int64_t n : {1, 7, 5000, 40003}) {
      Tensor x = random_tensor({n}, 1);
      x.data<float>()[n / 3] = dtype == DType::F16 ? 65504.0f : 3e38f;
      EXPECT_TRUE(gpu().all_finite(there(x, dtype)));
      for (float bad : {kInf, -kInf, kNaN, -kNaN}) {
        for (int64_t at : {int64_t{0}, n / 2, n - 1}) {
          const float good = x.data<float>()[at];
          x.data<float>()[at] = bad;
          EXPECT_FALSE(gpu().all_finite(there(x, dtype)));
          if (n < 10) {
            EXPECT_FALSE(gpu().all_finite(displaced(x, dtype)));
          }
          x.data<float>()[at] = good;
        }
      }
    }
    EXPECT_TRUE(gpu().all_finite(empty({0}, dtype)));
  }
}

TEST_F(CudaReduce, RowMaxFindsTheFirstOfTheLargest) {
  for (const Shape& shape :
       {Shape{1, 1}, Shape{7, 13}, Shape{3, 50, 257}, Shape{2, 40000}, Shape{5, 64}, Shape{3, 1000}}) {
    for (DType dtype : kFloats) {
      const Tensor x = rounded_to(random_tensor(shape, 3), dtype);  // halves have many equal numbers
      const int64_t D = shape.dim(-1), rows = x.numel() / D;
      for (const Tensor& from : {there(x, dtype), displaced(x, dtype)}) {
        Tensor value = empty({rows}, dtype), place = empty({rows}, DType::I32);
        gpu().row_max(from, value, place);
        const Tensor values = back(value), places = copy_to(place, Device{});
        for (int64_t i = 0; i < rows; ++i) {
          const float* row = x.data<float>() + i * D;
          const int64_t best = std::max_element(row, row + D) - row;
          ASSERT_EQ(places.data<int32_t>()[i], best) << to_string(shape) << " " << to_string(dtype);
          ASSERT_EQ(values.data<float>()[i], row[best]);
        }
      }
    }
  }
  Tensor value = empty({0}), place = empty({0}, DType::I32);
  gpu().row_max(empty({0, 3}), value, place);
}

TEST_F(CudaReduce, RowMaxTreatsSpecialNumbersAsTheCpu) {
  const std::vector<float> values{-3,    -1,   -1,    -2,   kNaN, kNaN,  kNaN,  kNaN,  1,     kNaN,
                                  3,     3,    kNaN,  9,    9,    9,     -kInf, -kInf, -kInf, -kInf,
                                  -kInf, kNaN, -kInf, -5,   0.0f, -0.0f, 0.0f,  -1,    -0.0f, 0.0f,
                                  -0.0f, -7,   kInf,  kNaN, kInf, 1,     -kInf, kNaN,  kNaN,  -kInf};
  const Tensor x = Tensor::from({10, 4}, values);
  Tensor expected = Tensor::empty({10}), expected_place = Tensor::empty({10}, DType::I32);
  cpu_kernels().row_max(x, expected, expected_place);
  for (DType dtype : kFloats) {
    Tensor value = empty({10}, dtype), place = empty({10}, DType::I32);
    gpu().row_max(there(x, dtype), value, place);
    expect_close(back(value), doubles(expected), 0, 0);
    EXPECT_EQ(copy_to(place, Device{}).to_vector<int32_t>(), expected_place.to_vector<int32_t>());
    EXPECT_EQ(std::signbit(back(value).data<float>()[7]), std::signbit(expected.data<float>()[7]));
  }
}

TEST_F(CudaReduce, GroupMeanIsTheCpus) {
  for (const auto& [B, T, C, M] :
       {std::tuple(1, 1, 1, 1), {2, 37, 5, 9}, {2, 200, 33, 50}, {1, 900, 300, 7}}) {
    std::mt19937 engine(7);
    std::vector<int32_t> groups(static_cast<size_t>(B * T));
    for (int32_t& g : groups) g = static_cast<int32_t>(engine() % static_cast<unsigned>(M));
    const Tensor group = Tensor::from(Shape{B, T}, groups);
    for (DType dtype : kFloats) {
      const Tensor x = rounded_to(random_tensor({B, T, C}, 6), dtype);
      Tensor expected = Tensor::empty({B, M, C}), y = empty({B, M, C}, dtype);
      cpu_kernels().group_mean(x, group, expected);
      gpu().group_mean(there(x, dtype), copy_to(group, device()), y);
      EXPECT_TRUE(same_bits(back(y), rounded_to(expected, dtype))) << T << " " << to_string(dtype);
    }
  }
  Tensor y = empty({1, 2, 3});
  gpu().group_mean(empty({1, 0, 3}), empty({1, 0}, DType::I32), y);
  expect_close(back(y), std::vector<double>(6), 0, 0);
}

}  // namespace
}  // namespace sinopia
