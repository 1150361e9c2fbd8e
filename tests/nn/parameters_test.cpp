#include "sinopia/nn/parameters.h"

#include <algorithm>

#include "sinopia/ops/shape.h"
#include "tests/reference.h"

namespace sinopia {
namespace {

using namespace testing;

const Initialiser kAny = Initialiser::zeros();

// A tensor in storage that counts how often its pages are given back, as a mapped file's.
struct Mapped {
  explicit Mapped(const Tensor& values) : values_(values) {
    auto storage =
        std::make_shared<Storage>(const_cast<void*>(values_.raw()), values_.bytes(), Device{}, nullptr,
                                  [this](const void*, size_t bytes) { dropped += bytes; });
    tensor = Tensor(values.shape(), values.dtype(), storage);
  }
  Tensor tensor;
  size_t dropped = 0;

 private:
  Tensor values_;
};

TEST(CheckpointParameters, EachKeyIsTakenOnce) {
  CheckpointParameters parameters({{"a", random_tensor({2}, 1)}, {"b", random_tensor({3}, 2)}}, "unet");
  EXPECT_TRUE(parameters.has("a"));
  EXPECT_FALSE(parameters.has("c"));
  EXPECT_TRUE(same_bits(parameters.take("a", {2}, kAny), random_tensor({2}, 1)));
  expect_error(ErrorKind::InvalidArgument, "[unet] a was taken twice",
               [&] { parameters.take("a", {2}, kAny); });
  expect_error(ErrorKind::NotFound, "[unet] expected a parameter c [4,2,3,3], found none", [&] {
    parameters.take("c", {4, 2, 3, 3}, kAny);
  });
  expect_error(ErrorKind::Corrupt, "[unet] 1 key(s) that no part of the model uses: b",
               [&] { parameters.finish(); });
  parameters.take("b", {3}, kAny);
  EXPECT_NO_THROW(parameters.finish());
}

TEST(CheckpointParameters, OnlyMatricesStayQuantised) {
  const auto quantised = [](const Shape& shape, unsigned seed) {
    return to_dtype(random_tensor(shape, seed), DType::Q8_0);
  };
  CheckpointParameters parameters(
      {{"matrix", quantised({5, 64}, 1)}, {"vector", quantised({32}, 2)}, {"kernel", quantised({3, 32}, 3)}},
      "unet");
  const Tensor matrix = parameters.take("matrix", {5, 64}, kAny);
  EXPECT_EQ(describe(matrix), "q8_0 [5,64]");
  EXPECT_EQ(describe(parameters.take("vector", {32}, kAny)), "f32 [32]");
  const Tensor kernel = parameters.take("kernel", {3, 32, 1, 1}, kAny);
  EXPECT_EQ(describe(kernel), "f32 [3,32,1,1]");
  EXPECT_TRUE(same_bits(kernel.reshape({3, 32}), to_dtype(quantised({3, 32}, 3), DType::F32)));
}

TEST(CheckpointParameters, NamesTheFirstLeftOverKeys) {
  TensorMap tensors;
  for (char c = 'a'; c <= 'g'; ++c) tensors.emplace(std::string(1, c), random_tensor({1}, 1));
  const CheckpointParameters parameters(tensors, "vae");
  expect_error(ErrorKind::Corrupt, "[vae] 7 key(s) that no part of the model uses: a, b, c, d, e, ...",
               [&] { parameters.finish(); });
}

TEST(CheckpointParameters, ShapeErrorsSayWhatWasWantedAndFound) {
  struct Case {
    Shape stored, asked;
    std::string message;
  };
  for (const Case& c : {Case{{3}, {4}, "expected w to be [4], found [3]"},
                        Case{{4, 2, 3, 3}, {4, 5, 3, 3}, "expected w to be [4,5,3,3], found [4,2,3,3]"},
                        Case{{4, 3, 3, 2}, {4, 2, 3, 3}, "expected w to be [4,2,3,3], found [4,3,3,2]"},
                        Case{{4, 2, 1, 3}, {4, 2}, "expected w to be [4,2], found [4,2,1,3]"},
                        Case{{4, 2}, {4, 2, 3, 3}, "expected w to be [4,2,3,3], found [4,2]"},
                        Case{{2, 4}, {4, 2}, "expected w to be [4,2], found [2,4]"},
                        Case{{1, 4}, {4}, "expected w to be [4], found [1,4]"}}) {
    CheckpointParameters parameters({{"w", random_tensor(c.stored, 1)}}, "clip");
    expect_error(ErrorKind::Corrupt, "[clip] " + c.message, [&] { parameters.take("w", c.asked, kAny); });
  }
}

TEST(CheckpointParameters, StayMapped) {
  struct Case {
    Shape stored, asked;
  };
  for (const Case& c : {Case{{5, 7}, {5, 7}}, Case{{5, 7, 1, 1}, {5, 7}}, Case{{5, 7}, {5, 7, 1, 1}},
                        Case{{5, 7, 1, 1}, {5, 7, 1, 1}}, Case{{5, 7, 3, 2}, {5, 7, 3, 2}}, Case{{5}, {5}}}) {
    for (DType dtype : {DType::F32, DType::F16, DType::BF16}) {
      Mapped mapped(stored_as(random_tensor(c.stored, 1), dtype));
      CheckpointParameters parameters({{"w", mapped.tensor}}, "unet");
      const Tensor w = parameters.take("w", c.asked, kAny);
      EXPECT_EQ(w.shape(), c.asked);
      EXPECT_EQ(w.raw(), mapped.tensor.raw());
      EXPECT_EQ(mapped.dropped, 0u);
      EXPECT_NO_THROW(parameters.finish());
    }
  }
}

TEST(CheckpointParameters, OtherTypesBecomeF32) {
  const std::vector<double> numbers = {1.5, -2.25, 1e-3};
  CheckpointParameters parameters(
      {{"d", Tensor::from(Shape{3}, numbers)}, {"i", Tensor::from(Shape{3}, std::vector<int64_t>{1, -2, 3})}},
      "clip");
  const Tensor d = parameters.take("d", {3}, kAny), i = parameters.take("i", {3}, kAny);
  EXPECT_EQ(d.to_vector<float>(), (std::vector<float>{1.5f, -2.25f, 1e-3f}));
  EXPECT_EQ(i.to_vector<float>(), (std::vector<float>{1, -2, 3}));
}

TEST(RandomParameters, DependOnSeedAndNameAlone) {
  const Initialiser normal = Initialiser::normal(1);
  RandomParameters one(1), again(1), other(2);
  const Tensor a = one.take("a", {4, 4}, normal), b = one.take("b", {4, 4}, normal);
  EXPECT_TRUE(same_bits(again.take("b", {4, 4}, normal), b));
  EXPECT_TRUE(same_bits(again.take("a", {4, 4}, normal), a));
  EXPECT_FALSE(same_bits(a, b));
  EXPECT_FALSE(same_bits(other.take("a", {4, 4}, normal), a));
  expect_error(ErrorKind::InvalidArgument, "a was taken twice", [&] { one.take("a", {4, 4}, normal); });
}

TEST(RandomParameters, FollowTheInitialiser) {
  RandomParameters parameters(3);
  EXPECT_EQ(parameters.take("zeros", {3}, Initialiser::zeros()).to_vector<float>(),
            std::vector<float>(3, 0.0f));
  EXPECT_EQ(parameters.take("ones", {3}, Initialiser::ones()).to_vector<float>(),
            std::vector<float>(3, 1.0f));
  constexpr double n = 100000;
  const auto mean_and_square = [](const Tensor& x) {
    double mean = 0, square = 0;
    for (double v : doubles(x)) mean += v / n, square += v * v / n;
    return std::pair(mean, square);
  };
  // Five deviations of the estimates.
  const Tensor normal = parameters.take("normal", {100000}, Initialiser::normal(2));
  EXPECT_NEAR(mean_and_square(normal).first, 0, 5 * 2 / std::sqrt(n));
  EXPECT_NEAR(mean_and_square(normal).second, 4, 5 * 4 * std::sqrt(2 / n));
  const Tensor uniform = parameters.take("uniform", {100000}, Initialiser::fan_in(16));
  EXPECT_NEAR(mean_and_square(uniform).first, 0, 5 * 0.25 / std::sqrt(3 * n));
  EXPECT_NEAR(mean_and_square(uniform).second, 0.0625 / 3, 5 * 0.0625 * std::sqrt(4.0 / 45 / n));
  for (double v : doubles(uniform)) ASSERT_LE(std::abs(v), 0.25);
}

TEST(RandomParameters, LoadBack) {
  const Initialiser normal = Initialiser::normal(1);
  RandomParameters random(4);
  const Tensor conv = random.take("conv", {4, 5, 3, 3}, normal), dense = random.take("dense", {4, 5}, normal);
  CheckpointParameters loaded(random.taken(), "model");
  EXPECT_TRUE(same_bits(loaded.take("conv", {4, 5, 3, 3}, normal), conv));
  EXPECT_TRUE(same_bits(loaded.take("dense", {4, 5}, normal), dense));
  loaded.finish();
}

}  // namespace
}  // namespace sinopia
