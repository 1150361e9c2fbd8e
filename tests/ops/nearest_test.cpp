#include "sinopia/ops/nearest.h"

#include <limits>

#include "sinopia/autograd/tape.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/shape.h"
#include "tests/instruction_sets.h"
#include "tests/reference.h"

namespace sinopia {
namespace {

using namespace testing;

struct Found {
  double distance;
  int32_t place;
};

double squared_distance(const double* a, const double* b, int64_t D) {
  double sum = 0;
  for (int64_t i = 0; i < D; ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

// A row that is not the nearest in double must be as near as f32 sums can tell.
TEST(NearestRows, FindsTheNearest) {
  for (const auto& [N, K, D] : {std::tuple(1, 1, 1), {5, 7, 3}, {70, 33, 4}, {3, 300, 1}, {131, 65, 37}}) {
    for (DType dtype : {DType::F32, DType::F16, DType::BF16}) {
      const Tensor x = random_tensor({N, D}, 1), table = stored_as(random_tensor({K, D}, 2), dtype);
      const std::vector<double> a = doubles(x), b = doubles(table);
      for_each_instruction_set([&, N = N, K = K, D = D] {
        const Tensor got = nearest_rows(x, table);
        ASSERT_EQ(got.shape(), Shape{N});
        int others = 0;
        for (int64_t n = 0; n < N; ++n) {
          const auto distance = [&](int64_t k) { return squared_distance(&a[n * D], &b[k * D], D); };
          Found best{std::numeric_limits<double>::infinity(), 0};
          for (int32_t k = 0; k < K; ++k) {
            if (distance(k) < best.distance) best = {distance(k), k};
          }
          const int32_t place = got.data<int32_t>()[n];
          ASSERT_GE(place, 0);
          ASSERT_LT(place, K);
          if (place == best.place) continue;
          ++others;
          EXPECT_LE(distance(place), best.distance * (1 + 2 * (D + 2) * kEpsilon)) << "row " << n;
        }
        EXPECT_LE(others, N / 50);
      });
    }
  }
}

TEST(NearestRows, GivesTheFirstOfEqualOnes) {
  constexpr int64_t kWidth = 3;
  for (int64_t K : {2, 9, 40}) {
    const Tensor few = random_tensor({K, kWidth}, 3);
    std::vector<float> rows;
    for (int i = 0; i < 3; ++i)
      rows.insert(rows.end(), few.values<float>().begin(), few.values<float>().end());
    const Tensor table = Tensor::from(Shape{3 * K, kWidth}, rows), x = random_tensor({50, kWidth}, 4);
    for_each_instruction_set(
        [&] { EXPECT_TRUE(same_bits(nearest_rows(x, table), nearest_rows(x, few))) << K; });
  }
}

TEST(NearestRows, KeepsItsShapeAndItsBits) {
  const Tensor x = random_tensor({2, 300, 5, 6}, 5), table = random_tensor({100, 6}, 6);
  EXPECT_EQ(nearest_rows(x, table).shape(), (Shape{2, 300, 5}));
  EXPECT_EQ(nearest_rows(x, table).dtype(), DType::I32);
  EXPECT_EQ(nearest_rows(Tensor::empty({0, 6}), table).numel(), 0);
  expect_same_for_any_thread_count([&] { return nearest_rows(x, table); });
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(*nearest_rows(full({1, 6}, nan), table).data<int32_t>(), 0);
}

TEST(NearestRows, Errors) {
  const Tensor x = random_tensor({4, 3}, 1);
  expect_error(ErrorKind::InvalidArgument, "[nearest_rows] expected rows like those of x, got f32 [5,2]",
               [&] {
                 nearest_rows(x, random_tensor({5, 2}, 2));
               });
  expect_error(ErrorKind::InvalidArgument, "[nearest_rows] expected rows like those of x, got f32 [0,3]",
               [&] {
                 nearest_rows(x, Tensor::empty({0, 3}));
               });
  expect_error(ErrorKind::InvalidArgument, "[nearest_rows] expected table with 2 axes",
               [&] { nearest_rows(x, random_tensor({3}, 2)); });
  expect_error(ErrorKind::InvalidArgument, "[nearest_rows] expected f32 x", [&] {
    nearest_rows(Tensor::empty({4, 3}, DType::I32), x);
  });
}

TEST(StraightThrough, HasOneTensorsElementsAndTheOthersGradient) {
  const Tensor value = make_leaf(random_tensor({3, 5}, 1)), through = make_leaf(random_tensor({3, 5}, 2)),
               dy = random_tensor({3, 5}, 3);
  const RecordGradients on;
  const Tensor y = straight_through(value * 2.0, through * 3.0);
  expect_close(y, doubles(without_gradient(value) * 2.0), 0, 0);
  backward(y, dy);
  EXPECT_FALSE(gradient_of(value));
  EXPECT_TRUE(same_bits(gradient_of(through), without_gradient(dy) * 3.0));
  expect_error(ErrorKind::InvalidArgument, "[straight_through] expected two tensors of one shape", [&] {
    straight_through(value, random_tensor({5, 3}, 2));
  });
}

}  // namespace
}  // namespace sinopia
