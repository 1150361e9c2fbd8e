#include "sinopia/ops/activation.h"
#include "sinopia/ops/attention.h"
#include "sinopia/ops/conv2d.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/linear.h"
#include "sinopia/ops/shape.h"
#include "tests/reference.h"

namespace sinopia {
namespace {

using namespace testing;

constexpr ErrorKind kInvalid = ErrorKind::InvalidArgument;

TEST(ProductChecks, Linear) {
  const Tensor x = random_tensor({2, 3, 8}, 1), w = random_tensor({5, 8}, 2), b = random_tensor({5}, 3);
  EXPECT_EQ(linear(x, w, b, random_tensor({2, 3, 5}, 4)).shape(), (Shape{2, 3, 5}));
  EXPECT_EQ(linear(Tensor::empty({0, 8}), w, b).shape(), (Shape{0, 5}));
  expect_error(kInvalid, "[linear] expected I=8, got 3 (x=[2,3])", [&] {
    linear(random_tensor({2, 3}, 1), w);
  });
  expect_error(kInvalid, "[linear] expected bias=[5], got [8]", [&] { linear(x, w, random_tensor({8}, 1)); });
  expect_error(kInvalid, "[linear] expected add=[2,3,5], got [2,3,8]", [&] { linear(x, w, b, x); });
  expect_error(kInvalid, "[linear] expected weight with 2 axes", [&] { linear(x, b); });
  expect_error(kInvalid, "[linear] expected weight in f32, f16 or bf16, got absent", [&] { linear(x, {}); });
  expect_error(kInvalid, "[linear] expected f32 x, got absent", [&] { linear({}, w); });
}

TEST(ProductChecks, QuantisedMatrices) {
  const Tensor w = to_dtype(random_tensor({4, 64}, 1), DType::Q4_0), x = random_tensor({2, 64}, 2);
  EXPECT_EQ(linear(x, w).shape(), (Shape{2, 4}));
  expect_error(kInvalid, "[linear] expected I=64, got 32", [&] { linear(random_tensor({2, 32}, 1), w); });
  expect_error(kInvalid, "[linear] expected bias in f32, f16 or bf16, got q8_0 [64]", [&] {
    linear(random_tensor({2, 8}, 1), random_tensor({64, 8}, 2),
           to_dtype(random_tensor({64}, 3), DType::Q8_0));
  });
  expect_error(kInvalid, "[conv2d] expected weight in f32, f16 or bf16, got q8_0 [1,1,1,32]", [&] {
    conv2d(random_tensor({1, 2, 2, 1}, 1), to_dtype(random_tensor({1, 1, 1, 32}, 3), DType::Q8_0), {}, {});
  });
  // Everything that takes elements one by one.
  expect_error(kInvalid, "[silu] expected f32 x, got q4_0 [4,64]", [&] { silu(w); });
  expect_error(kInvalid, "expected f32", [&] { x + w; });
  expect_error(kInvalid, "[permute] expected single elements, got q4_0", [&] { permute(w, {1, 0}); });
  expect_error(kInvalid, "[narrow] expected single elements, got q4_0", [&] { narrow(w, 1, 0, 32); });
  // Whole rows and blocks may be cut and joined.
  const Tensor joined = concat({w, w.slice(1, 3)}, 0), wide = concat({w, w}, 1);
  EXPECT_EQ(describe(joined), "q4_0 [6,64]");
  EXPECT_TRUE(same_bits(to_dtype(joined, DType::F32).slice(4, 6), to_dtype(w, DType::F32).slice(1, 3)));
  const Tensor values = to_dtype(w, DType::F32);
  EXPECT_TRUE(same_bits(to_dtype(wide, DType::F32), concat({values, values}, 1)));
}

TEST(ProductChecks, Matmul) {
  const Tensor a = random_tensor({2, 3, 8}, 1), b = random_tensor({2, 8, 5}, 2);
  EXPECT_EQ(matmul(a, b).shape(), (Shape{2, 3, 5}));
  EXPECT_EQ(matmul(a, random_tensor({2, 4, 8}, 2), Transpose::Right).shape(), (Shape{2, 3, 4}));
  expect_error(kInvalid, "[matmul] expected B=2 and K=8, got 2 and 5",
               [&] { matmul(a, b, Transpose::Right); });
  expect_error(kInvalid, "[matmul] expected B=2", [&] { matmul(a, b.slice(0, 1)); });
  expect_error(kInvalid, "[matmul] expected b with 3 axes", [&] { matmul(a, random_tensor({8, 5}, 1)); });
}

TEST(ProductChecks, Conv2d) {
  const Tensor x = random_tensor({2, 7, 9, 4}, 1), w = random_tensor({5, 4, 3, 3}, 2),
               b = random_tensor({5}, 3);
  const Conv2dOptions same{.stride = 1, .padding = Padding::same(1)};
  EXPECT_EQ(conv2d(x, w, b, same, random_tensor({2, 5}, 4)).shape(), (Shape{2, 7, 9, 5}));
  EXPECT_EQ(conv2d(x, w, b, {.stride = 2, .padding = {0, 0, 1, 1}}).shape(), (Shape{2, 3, 4, 5}));
  EXPECT_EQ(conv2d(x.slice(0, 0), w, b, same).shape(), (Shape{0, 7, 9, 5}));
  expect_error(kInvalid, "[conv2d] expected C=4, got 9 (x=[1,64,64,9])", [&] {
    conv2d(random_tensor({1, 64, 64, 9}, 1), w, b, same);
  });
  expect_error(kInvalid, "[conv2d] expected bias=[5], got [4]",
               [&] { conv2d(x, w, random_tensor({4}, 1), same); });
  expect_error(kInvalid, "[conv2d] expected add=[2,7,9,5] or [2,5], got [2,7,9,4]",
               [&] { conv2d(x, w, b, same, x); });
  expect_error(kInvalid, "[conv2d] expected at least 3x3 pixels with padding, got 2x9", [&] {
    conv2d(random_tensor({1, 2, 9, 4}, 1), w, b, {});
  });
  expect_error(kInvalid, "[conv2d] expected stride >= 1",
               [&] { conv2d(x, w, b, {.stride = 0, .padding = {}}); });
  expect_error(kInvalid, "[conv2d] expected stride >= 1 and padding >= 0", [&] {
    conv2d(x, w, b, {.stride = 1, .padding = {-1, 0, 0, 0}});
  });
  expect_error(kInvalid, "[conv2d] expected x with 4 axes", [&] {
    conv2d(x.reshape({2, 63, 4}), w, b, same);
  });
}

TEST(ProductChecks, Attention) {
  const Tensor q = random_tensor({2, 3, 8}, 1), k = random_tensor({2, 5, 8}, 2);
  const AttentionOptions heads{.heads = 2};
  EXPECT_EQ(attention(q, k, k, heads, random_tensor({1, 2, 3, 5}, 3)).shape(), (Shape{2, 3, 8}));
  expect_error(kInvalid, "[attention] expected k and v [2,S,8]", [&] { attention(q, k, q, heads); });
  expect_error(kInvalid, "[attention] expected k and v [2,S,8]",
               [&] { attention(q, k.slice(0, 1), k.slice(0, 1), heads); });
  expect_error(kInvalid, "[attention] expected heads that divide 8, got 3",
               [&] { attention(q, k, k, {.heads = 3}); });
  expect_error(kInvalid, "[attention] expected bias [1 or 2,1 or 2,3,5], got [1,1,3,4]", [&] {
    attention(q, k, k, heads, random_tensor({1, 1, 3, 4}, 3));
  });
  expect_error(kInvalid, "[attention] expected at least one key", [&] {
    attention(q, Tensor::empty({2, 0, 8}), Tensor::empty({2, 0, 8}), heads);
  });
}

}  // namespace
}  // namespace sinopia
