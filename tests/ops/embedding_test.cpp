#include "sinopia/ops/embedding.h"

#include "tests/instruction_sets.h"
#include "tests/reference.h"

namespace sinopia {
namespace {

using namespace testing;

TEST(Embedding, GathersRowsOfAnyWeightType) {
  const std::vector<int32_t> ids = {4, 0, 3, 3, 1, 4};
  for_each_instruction_set([&] {
    for (DType dtype : {DType::F32, DType::F16, DType::BF16}) {
      for (int64_t D : {1, 8, 33}) {
        const Tensor table = stored_as(random_tensor({5, D}, 1), dtype);
        const std::vector<double> rows = doubles(table);
        std::vector<double> expected;
        for (int32_t id : ids) {
          for (int64_t i = 0; i < D; ++i) expected.push_back(rows[static_cast<size_t>(id * D + i)]);
        }
        const Tensor y = embedding(table, Tensor::from(Shape{2, 3}, ids));
        EXPECT_EQ(y.shape(), (Shape{2, 3, D}));
        EXPECT_EQ(y.dtype(), DType::F32);
        expect_close(y, expected, 0, 0);
      }
    }
  });
}

TEST(Embedding, Errors) {
  const Tensor table = random_tensor({5, 2}, 1);
  const auto ids = [](int32_t id) { return Tensor::from(Shape{1}, std::vector<int32_t>{id}); };
  expect_error(ErrorKind::InvalidArgument, "[embedding] expected ids in [0,5), got 5",
               [&] { embedding(table, ids(5)); });
  expect_error(ErrorKind::InvalidArgument, "got -1", [&] { embedding(table, ids(-1)); });
  expect_error(ErrorKind::InvalidArgument, "[embedding] expected i32 ids, got f32 [5,2]",
               [&] { embedding(table, table); });
  expect_error(ErrorKind::InvalidArgument, "[embedding] expected table with 2 axes",
               [&] { embedding(table.reshape({10}), ids(1)); });
  EXPECT_EQ(embedding(table, Tensor::empty({0}, DType::I32)).shape(), (Shape{0, 2}));
}

// The frequencies are f32 in the reference too, so that an angle t * f is only good to t * eps.
TEST(TimestepEmbedding, MatchesTheFormula) {
  const Tensor t = Tensor::from(Shape{6}, std::vector<float>{0, 1, 17.5f, 999, 0.25f, -3});
  for (int64_t dim : {2, 7, 8, 320}) {
    for (float shift : {0.0f, 0.5f}) {
      for (bool cos_first : {true, false}) {
        std::vector<double> expected;
        const auto half = dim / 2;
        for (double time : doubles(t)) {
          std::vector<double> row(static_cast<size_t>(dim), 0.0);
          for (int64_t i = 0; i < half; ++i) {
            const double f = std::pow(
                10000.0, -static_cast<double>(i) / (static_cast<double>(half) - static_cast<double>(shift)));
            row[static_cast<size_t>(cos_first ? i : half + i)] = std::cos(time * f);
            row[static_cast<size_t>(cos_first ? half + i : i)] = std::sin(time * f);
          }
          expected.insert(expected.end(), row.begin(), row.end());
        }
        const Tensor y = timestep_embedding(t, {.dim = dim, .cos_first = cos_first, .shift = shift});
        EXPECT_EQ(y.shape(), (Shape{6, dim}));
        // An exponent near -9 carries 9 roundings of its own size, which the angle multiplies by t.
        expect_close(y, expected, 999 * 8 * kEpsilon, 0);
        expect_close(y.slice(0, 2), {expected.begin(), expected.begin() + 2 * dim}, 16 * kEpsilon, 0);
      }
    }
  }
}

TEST(TimestepEmbedding, Errors) {
  const Tensor t = random_tensor({2}, 1);
  expect_error(ErrorKind::InvalidArgument, "[timestep_embedding] expected dim >= 2",
               [&] { timestep_embedding(t, {.dim = 1}); });
  expect_error(ErrorKind::InvalidArgument, "[timestep_embedding] expected dim >= 2, shift other than dim / 2",
               [&] { timestep_embedding(t, {.dim = 2, .shift = 1}); });
  expect_error(ErrorKind::InvalidArgument, "[timestep_embedding] expected t with 1 axes", [&] {
    timestep_embedding(t.reshape({1, 2}), {});
  });
}

}  // namespace
}  // namespace sinopia
