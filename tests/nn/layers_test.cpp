#include "sinopia/nn/layers.h"

#include "sinopia/nn/parameters.h"
#include "tests/reference.h"

namespace sinopia {
namespace {

using namespace testing;

TEST(Scope, JoinsNamesWithDots) {
  ParameterShapes shapes;
  const Scope root(shapes);
  EXPECT_EQ(root.path(), "");
  EXPECT_EQ((root / "blocks" / 3 / "norm").path(), "blocks.3.norm");
  root.parameter("a", {2}, Initialiser::zeros());
  (root / "b").parameter("c", {3}, Initialiser::zeros());
  EXPECT_EQ(shapes.shapes(), (std::map<std::string, Shape>{{"a", {2}}, {"b.c", {3}}}));
  expect_error(ErrorKind::InvalidArgument, "b.c was taken twice",
               [&] { (root / "b").parameter("c", {3}, Initialiser::zeros()); });
}

TEST(Layers, AreBuiltFromNamesAndShapesAlone) {
  ParameterShapes shapes;
  const Scope root(shapes);
  Linear(root / "linear", 3, 5);
  Linear(root / "unbiased", 3, 5, false);
  Conv2d(root / "conv", 4, 6, 3);
  GroupNorm(root / "group", 64);
  LayerNorm(root / "layer", 7);
  Embedding(root / "table", 10, 4);
  EXPECT_EQ(shapes.shapes(), (std::map<std::string, Shape>{{"linear.weight", {5, 3}},
                                                           {"linear.bias", {5}},
                                                           {"unbiased.weight", {5, 3}},
                                                           {"conv.weight", {6, 4, 3, 3}},
                                                           {"conv.bias", {6}},
                                                           {"group.weight", {64}},
                                                           {"group.bias", {64}},
                                                           {"layer.weight", {7}},
                                                           {"layer.bias", {7}},
                                                           {"table.weight", {10, 4}}}));
}

// Each layer against its op with the parameters written out, so that a swapped argument shows.
TEST(Layers, CallTheirOps) {
  RandomParameters parameters(7);
  const Scope root(parameters);
  const Linear dense(root / "linear", 8, 5);
  const Conv2d conv(root / "conv", 8, 6, 3),
      strided(root / "strided", 8, 6, 3, {.stride = 2, .padding = {0, 0, 1, 1}});
  const TensorMap file = parameters.taken();
  const Tensor x = random_tensor({2, 5, 7, 8}, 1);

  const auto close_to_exact_linear = [&](const Tensor& y, const Tensor& add) {
    const std::vector<double> w = doubles(file.at("linear.weight")), b = doubles(file.at("linear.bias")),
                              v = doubles(x);
    std::vector<double> expected;
    for (size_t row = 0; row < 70; ++row) {
      for (size_t o = 0; o < 5; ++o) {
        double sum = b[o] + (add ? doubles(add)[row * 5 + o] : 0);
        for (size_t i = 0; i < 8; ++i) sum += v[row * 8 + i] * w[o * 8 + i];
        expected.push_back(sum);
      }
    }
    expect_close(y, expected, 64 * kEpsilon, 0);
  };
  const Tensor add = random_tensor({2, 5, 7, 5}, 2);
  close_to_exact_linear(dense(x), {});
  close_to_exact_linear(dense(x, add), add);
  EXPECT_TRUE(same_bits(dense.weight(), file.at("linear.weight")));

  EXPECT_EQ(conv(x).shape(), (Shape{2, 5, 7, 6}));
  EXPECT_EQ(strided(x).shape(), (Shape{2, 2, 3, 6}));
  const Tensor residual = random_tensor({2, 5, 7, 6}, 3);
  std::vector<double> sums = doubles(conv(x));
  for (size_t i = 0; i < sums.size(); ++i) sums[i] += doubles(residual)[i];
  expect_close(conv(x, residual), sums, 16 * kEpsilon, 0);

  // Ones and zeros at the start leave the bare norm.
  expect_close(LayerNorm(root / "layer", 8, 1e-3f)(x), doubles(layer_norm(x, {}, {}, 1e-3f)), 0, 0);
  expect_close(GroupNorm(root / "group", 8, 4, 1e-3f)(x, Activation::Silu),
               doubles(group_norm(x, 4, {}, {}, 1e-3f, Activation::Silu)), 0, 0);
  const Embedding table(root / "table", 10, 4);
  const Tensor row = table(Tensor::from(Shape{1}, std::vector<int32_t>{3}));
  EXPECT_TRUE(same_bits(row, table.weight().slice(3, 4)));
}

}  // namespace
}  // namespace sinopia
