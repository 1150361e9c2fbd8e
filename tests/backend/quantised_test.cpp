#include "sinopia/backend/cpu/quantised.h"

#include <array>
#include <fstream>
#include <iterator>

#include "tests/backend/product_reference.h"
#include "tests/kind_of.h"

namespace sinopia {
namespace {

using namespace testing;

constexpr DType kQuantised[] = {DType::Q8_0, DType::Q6_K, DType::Q5_K, DType::Q4_K, DType::Q4_0};

/// tests/golden/quantised/blocks.bin, piece by piece; see tools/golden/quantised.py.
class Golden {
 public:
  Golden() : file_(SINOPIA_TEST_DATA "/quantised/blocks.bin", std::ios::binary) {}
  template <class T = char>
  std::vector<T> next(size_t count) {
    std::vector<T> values(count);
    file_.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(count * sizeof(T)));
    EXPECT_TRUE(file_.good());
    return values;
  }

 private:
  std::ifstream file_;
};

size_t bytes_of(DType dtype, int64_t count) {
  return static_cast<size_t>(count / block_elements(dtype)) * block_bytes(dtype);
}

Tensor stored(const Tensor& x, DType dtype) {
  Tensor y = Tensor::empty(x.shape(), dtype);
  cpu_kernels().convert(x, y);
  return y;
}

TEST(Quantised, GivesTheReferencesValuesToTheLastBit) {
  for_each_instruction_set([] {
    Golden golden;
    for (DType dtype : kQuantised) {
      SCOPED_TRACE(to_string(dtype));
      const auto blocks = golden.next(bytes_of(dtype, 1024));
      const auto expected = golden.next<float>(1024);
      // One byte off, as a file may have them.
      std::vector<char> moved(1, '\0');
      moved.insert(moved.end(), blocks.begin(), blocks.end());
      std::vector<float> got(1024);
      dequantise(dtype, moved.data() + 1, 1024, got.data());
      for (size_t i = 0; i < 1024; ++i) ASSERT_EQ(got[i], expected[i]) << i;
    }
  });
}

TEST(Quantised, EncodesSimpleBlocksAsTheReference) {
  Golden golden;
  for (DType dtype : kQuantised) {
    golden.next(bytes_of(dtype, 1024));
    golden.next<float>(1024);
  }
  const auto x = golden.next<float>(2048);
  for (DType dtype : {DType::Q8_0, DType::Q4_0}) {
    const auto expected = golden.next(bytes_of(dtype, 2048));
    std::vector<char> got(expected.size());
    quantise(dtype, x.data(), 2048, got.data());
    EXPECT_EQ(got, expected) << to_string(dtype);
  }
}

/// The root mean square of the error over that of x.
double relative_error(const Tensor& x, DType dtype) {
  const Tensor back = stored(stored(x, dtype), DType::F32);
  double error = 0, size = 0;
  for (int64_t i = 0; i < x.numel(); ++i) {
    const double v = x.data<float>()[i];
    error += std::pow(back.data<float>()[i] - v, 2);
    size += v * v;
  }
  return std::sqrt(error / size);
}

TEST(Quantised, ErrorIsThatOfItsBits) {
  // A uniform grid of step h has an error of h / sqrt(12); of 32 or 16 normal numbers the extremes are
  // about 2.1 and 1.8 deviations away. Half as much again is left for the rounding of the scales.
  Random random(12);
  const Tensor x = random.normal({16, 1024}, 0.03f);
  const double sqrt12 = std::sqrt(12.0);
  const std::pair<DType, double> bounds[] = {{DType::Q8_0, 2.1 / 127 / sqrt12},
                                             {DType::Q6_K, 1.8 / 32 / sqrt12},
                                             {DType::Q5_K, 4.2 / 31 / sqrt12},
                                             {DType::Q4_K, 4.2 / 15 / sqrt12},
                                             {DType::Q4_0, 2.1 / 8 / sqrt12}};
  for (const auto& [dtype, bound] : bounds) {
    const double error = relative_error(x, dtype);
    EXPECT_LT(error, 1.5 * bound) << to_string(dtype);
    EXPECT_GT(error, 0.5 * bound) << to_string(dtype);
  }
}

TEST(Quantised, AwkwardBlocks) {
  std::vector<float> values(7 * 256);
  for (int i = 0; i < 256; ++i) {
    values[256 + i] = 0.5f;                              // one positive value
    values[512 + i] = -0.5f;                             // one negative value
    values[768 + i] = i == 77 ? -3.0f : 0;               // one outlier
    values[1024 + i] = 1e-9f * static_cast<float>(i);    // below f16
    values[1280 + i] = i % 2 ? 60000.0f : -60000.0f;     // near its end
    values[1536 + i] = 100 + static_cast<float>(i % 5);  // far from zero
  }
  const Tensor x = Tensor::from({7, 256}, values);
  for (DType dtype : kQuantised) {
    SCOPED_TRACE(to_string(dtype));
    const Tensor back = stored(stored(x, dtype), DType::F32);
    for (int row = 0; row < 7; ++row) {
      float largest = 0, error = 0;
      for (int i = 256 * row; i < 256 * row + 256; ++i) {
        largest = std::max(largest, std::abs(values[i]));
        error = std::max(error, std::abs(back.data<float>()[i] - values[i]));
      }
      const float step = dtype == DType::Q4_0 || dtype == DType::Q4_K ? 1.0f / 7 : 1.0f / 15;
      EXPECT_LE(error, row == 4 ? 1e-6f : step * largest) << "row " << row;
    }
    for (int i = 0; i < 256; ++i) EXPECT_EQ(back.data<float>()[i], 0);
  }
}

TEST(Quantised, RefusesWhatItCannotStore) {
  for (DType dtype : kQuantised) {
    for (const float bad : {std::nanf(""), INFINITY, -INFINITY, 65505.0f, -1e30f}) {
      std::vector<float> values(512, 1.0f);
      values[300] = bad;
      EXPECT_EQ(kind_of([&] { stored(Tensor::from({2, 256}, values), dtype); }), ErrorKind::InvalidArgument);
    }
    EXPECT_EQ(kind_of([&] { Tensor::empty({2, 250}, dtype); }), ErrorKind::InvalidArgument);
    EXPECT_EQ(kind_of([&] { Tensor::empty(Shape{}, dtype); }), ErrorKind::InvalidArgument);
    Tensor q = Tensor::empty({2, 256}, dtype);
    EXPECT_EQ(kind_of([&] { cpu_kernels().fill(q, 1); }), ErrorKind::Unsupported);
  }
}

TEST(Quantised, ConvertsFromAndToAnyFloat) {
  Random random(13);
  const Tensor x = random.normal({3, 768}, 0.1f, DType::F16);
  for (DType dtype : kQuantised) {
    const Tensor q = stored(x, dtype), wide = stored(q, DType::F32);
    EXPECT_EQ(q.bytes(), bytes_of(dtype, x.numel()));
    std::vector<float> expected(static_cast<size_t>(x.numel()));
    dequantise(dtype, q.raw(), x.numel(), expected.data());
    EXPECT_EQ(wide.to_vector<float>(), expected);
    const Tensor half = stored(q, DType::F16), other = stored(q, DType::Q8_0);
    for (int64_t i = 0; i < x.numel(); ++i) {
      ASSERT_EQ(half.data<Half>()[i].bits, to_half(expected[static_cast<size_t>(i)]).bits);
    }
    EXPECT_EQ(stored(wide, DType::Q8_0).bytes(), other.bytes());
    EXPECT_EQ(0, std::memcmp(stored(wide, DType::Q8_0).raw(), other.raw(), other.bytes()));
  }
}

TEST(Quantised, RowsOfATable) {
  Random random(14);
  for (DType dtype : kQuantised) {
    const Tensor table = stored(random.normal({7, 512}), dtype), wide = stored(table, DType::F32);
    const std::vector<int32_t> ids = {6, 0, 3, 3};
    Tensor y = Tensor::empty({4, 512});
    cpu_kernels().gather_rows(table, Tensor::from({4}, ids), y);
    for (size_t i = 0; i < ids.size(); ++i) {
      EXPECT_EQ(0, std::memcmp(y.slice(static_cast<int64_t>(i), static_cast<int64_t>(i) + 1).raw(),
                               wide.slice(ids[i], ids[i] + 1).raw(), 512 * 4));
    }
  }
}

Tensor run_linear(const Tensor& x, const Tensor& w, const Tensor& bias) {
  Tensor y = Tensor::empty({x.dim(0), w.dim(0)});
  cpu_kernels().fill(y, std::nanf(""));
  cpu_kernels().linear(x, w, bias, {}, Activation::Silu, y);
  return y;
}

TEST(Quantised, LinearMatchesDoubleOnItsValues) {
  for_each_instruction_set([] {
    Random random(15);
    for (DType dtype : kQuantised) {
      const int64_t block = block_elements(dtype);
      for (const auto [M, O, blocks] : {std::array<int64_t, 3>{1, 77, 3},
                                        {77, 131, 5},
                                        {200, 37, 2},
                                        {7, 5, 1},
                                        {300, 3, 4},
                                        {2, 2, 6}}) {
        const int64_t I = blocks * block;
        SCOPED_TRACE(fmt::format("M={} O={} I={} {}", M, O, I, to_string(dtype)));
        const Tensor x = random.normal({M, I}), bias = random.normal({O});
        const Tensor w = stored(random.normal({O, I}, 1 / std::sqrt(static_cast<float>(I))), dtype);
        const auto xs = doubles(x), ws = doubles(stored(w, DType::F32)), biases = doubles(bias);
        std::vector<Sum> sums(static_cast<size_t>(M * O));
        for (int64_t m = 0; m < M; ++m) {
          for (int64_t o = 0; o < O; ++o) {
            Sum& sum = sums[static_cast<size_t>(m * O + o)];
            for (int64_t i = 0; i < I; ++i) sum.add(xs[m * I + i] * ws[o * I + i]);
            sum.add(biases[o]);
          }
        }
        expect_products_near(run_linear(x, w, bias), sums, Activation::Silu);
      }
    }
  });
}

TEST(Quantised, LinearHasTheSameBitsOnAnyThreads) {
  Random random(16);
  for (DType dtype : kQuantised) {
    for (const auto [M, O, I] : {std::array<int64_t, 3>{1, 203, 1280}, {77, 131, 768}, {200, 300, 512}}) {
      const Tensor x = random.normal({M, I}), w = stored(random.normal({O, I}, 0.1f), dtype);
      expect_same_bits_on_any_threads([&] { return run_linear(x, w, {}); });
    }
  }
}

}  // namespace
}  // namespace sinopia
