#include <limits>

#include <fmt/format.h>

#include "sinopia/backend/recorded_call.h"
#include "tests/cuda/on_gpu.h"

namespace sinopia {
namespace {

using namespace testing;

Tensor whole_numbers(const Shape& shape, unsigned seed, int low, int high) {
  std::mt19937 engine(seed);
  std::uniform_int_distribution<int> number(low, high);
  std::vector<float> values(static_cast<size_t>(shape.numel()));
  for (float& v : values) v = static_cast<float>(number(engine));
  return Tensor::from(shape, values);
}

Tensor ids_of(int64_t count, int64_t V, unsigned seed) {
  std::mt19937 engine(seed);
  std::uniform_int_distribution<int32_t> id(0, static_cast<int32_t>(V) - 1);
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (int32_t& i : ids) i = id(engine);
  return Tensor::from({count}, ids);
}

class CudaNearestRows : public OnGpu {
 protected:
  Tensor nearest_there(const Tensor& x, DType x_type, const Tensor& table, DType table_type) const {
    Tensor place = empty({x.dim(0)}, DType::I32);
    gpu().nearest_rows(there(x, x_type), there(table, table_type), place);
    return copy_to(place, Device{});
  }
  static Tensor nearest_here(const Tensor& x, const Tensor& table) {
    Tensor place = Tensor::empty({x.dim(0)}, DType::I32);
    cpu_kernels().nearest_rows(x, table, place);
    return place;
  }
};

// Whole numbers, whose sums are exact: the place is the CPU's, and most rows have several nearest.
TEST_F(CudaNearestRows, ChooseTheFirstOfTheNearest) {
  for (const auto& [n, K, D] : {std::array<int64_t, 3>{1, 1, 1},
                                {5, 63, 2},
                                {64, 64, 16},
                                {65, 129, 17},
                                {3, 1000, 3},
                                {130, 200, 4},
                                {2, 700, 33}}) {
    for (const DType x_type : kFloats) {
      for (const DType table_type : kFloats) {
        SCOPED_TRACE(fmt::format("{} rows of {}, {} in the table", n, D, K));
        const Tensor x = whole_numbers({n, D}, 1, -2, 2), table = whole_numbers({K, D}, 2, -2, 2);
        EXPECT_TRUE(same_bits(nearest_there(x, x_type, table, table_type), nearest_here(x, table)));
      }
    }
  }
}

// Neighbours that differ in the last bits of a long sum.
TEST_F(CudaNearestRows, TellNearNeighboursApart) {
  const int64_t n = 70, K = 190, D = 67;
  Tensor x = random_tensor({n, D}, 3), table = Tensor::empty({K, D});
  // All rows are x's first one but for one coordinate each, moved by a little: only exact differences show
  // it.
  for (int64_t k = 0; k < K; ++k) {
    for (int64_t i = 0; i < D; ++i) table.data<float>()[k * D + i] = 1000 + x.data<float>()[i];
    table.data<float>()[k * D + k % D] += 0.001f * static_cast<float>((k * 37) % 101 - 50);
  }
  for (int64_t i = 0; i < n * D; ++i)
    x.data<float>()[i] = 1000 + x.data<float>()[i % D] + 1e-3f * static_cast<float>(i / D);
  const Tensor got = nearest_there(x, DType::F32, table, DType::F32);
  for (int64_t r = 0; r < n; ++r) {
    const auto distance = [&](int32_t k) {
      double sum = 0;
      for (int64_t i = 0; i < D; ++i) {
        const double d = static_cast<double>(x.data<float>()[r * D + i] - table.data<float>()[k * D + i]);
        sum += d * d;
      }
      return sum;
    };
    double least = std::numeric_limits<double>::infinity();
    for (int32_t k = 0; k < K; ++k) least = std::min(least, distance(k));
    EXPECT_LE(distance(got.data<int32_t>()[r]), least * (1 + 100 * kEpsilon)) << r;
  }
}

TEST_F(CudaNearestRows, NaNAndInfinityAreNoNeighbours) {
  const float nan = std::numeric_limits<float>::quiet_NaN(),
              infinity = std::numeric_limits<float>::infinity();
  Tensor x = whole_numbers({8, 5}, 4, -9, 9), table = whole_numbers({150, 5}, 5, -9, 9);
  x.data<float>()[7] = nan;
  x.data<float>()[12] = infinity;
  x.data<float>()[17] = 3e38f;  // its square is infinite
  table.data<float>()[0] = nan;
  table.data<float>()[700] = -infinity;
  const Tensor got = nearest_there(x, DType::F32, table, DType::F32);
  EXPECT_TRUE(same_bits(got, nearest_here(x, table)));
  EXPECT_EQ(got.data<int32_t>()[1], 0);
  EXPECT_EQ(got.data<int32_t>()[2], 0);
  EXPECT_EQ(got.data<int32_t>()[3], 0);
  EXPECT_NE(got.data<int32_t>()[0], 0);
}

TEST_F(CudaNearestRows, NoRows) {
  EXPECT_EQ(nearest_there(Tensor::empty({0, 4}), DType::F32, random_tensor({3, 4}, 1), DType::F32).numel(),
            0);
}

class CudaSumRows : public OnGpu {
 protected:
  void check(const Tensor& ids, int64_t V, int64_t D) const {
    SCOPED_TRACE(fmt::format("{} ids within {}, rows of {}", ids.numel(), V, D));
    const Tensor dy = random_tensor({ids.numel(), D}, 1);
    Tensor expected = Tensor::empty({V, D}), dtable = empty({V, D});
    cpu_kernels().sum_rows(dy, ids, expected);
    gpu().sum_rows(there(dy), there(ids), dtable);
    EXPECT_TRUE(same_bits(back(dtable), expected));
  }
};

TEST_F(CudaSumRows, AreThoseOfTheCpuToTheBit) {
  check(ids_of(77, 1000, 1), 1000, 40);
  check(ids_of(513, 37, 2), 37, 130);
  check(ids_of(1600, 5, 3), 5, 3);
  check(ids_of(1, 32, 4), 32, 128);
  check(ids_of(512, 33, 5), 33, 129);
  check(ids_of(1025, 1, 6), 1, 257);  // one row has all of them
  check(Tensor::empty({0}, DType::I32), 40, 7);
}

TEST_F(CudaSumRows, AndTheNearestCanBeRecorded) {
  RecordedCall call;
  for (unsigned seed = 1; seed <= 4; ++seed) {
    const Tensor x = whole_numbers({70, 6}, seed, -9, 9), table = whole_numbers({300, 6}, seed + 9, -9, 9);
    const auto y = call(std::vector{there(x), there(table)}, [&](std::span<const Tensor> in) {
      Tensor place = empty({70}, DType::I32), sums = empty({300, 6});
      gpu().nearest_rows(in[0], in[1], place);
      gpu().sum_rows(in[0], place, sums);
      return std::vector{sums};
    });
    Tensor place = Tensor::empty({70}, DType::I32), sums = Tensor::empty({300, 6});
    cpu_kernels().nearest_rows(x, table, place);
    cpu_kernels().sum_rows(x, place, sums);
    EXPECT_TRUE(same_bits(back(y[0]), sums));
  }
  EXPECT_TRUE(call.replayed());
}

TEST_F(CudaSumRows, NaNReachesItsRowAlone) {
  Tensor dy = random_tensor({9, 4}, 1);
  dy.data<float>()[18] = std::numeric_limits<float>::quiet_NaN();
  Tensor dtable = empty({6, 4});
  gpu().sum_rows(there(dy), there(Tensor::from({9}, std::vector<int32_t>{0, 1, 2, 3, 4, 5, 0, 1, 2})),
                 dtable);
  const std::vector<double> values = doubles(back(dtable));
  for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(std::isnan(values[i]), i == 18) << i;
}

TEST_F(CudaSumRows, NothingOfNothing) {
  Tensor dtable = empty({5, 0});
  gpu().sum_rows(there(Tensor::empty({3, 0})), there(Tensor::from({3}, std::vector<int32_t>{0, 1, 2})),
                 dtable);
  EXPECT_EQ(dtable.numel(), 0);
}

}  // namespace
}  // namespace sinopia
