#include "tests/cuda/expect_rounded.h"

namespace sinopia::testing {
namespace {

const std::vector<UnaryOp> kUnaryOps{UnaryOp::Silu,     UnaryOp::Gelu, UnaryOp::GeluTanh, UnaryOp::QuickGelu,
                                     UnaryOp::Relu,     UnaryOp::Tanh, UnaryOp::Sigmoid,  UnaryOp::Exp,
                                     UnaryOp::Log,      UnaryOp::Sqrt, UnaryOp::Abs,      UnaryOp::Square,
                                     UnaryOp::LeakyRelu};

using ElementwiseBackward = OnGpu;

TEST_F(ElementwiseBackward, UnaryIsThatOfTheCpu) {
  for (const DType dtype : kFloats)
    for (const UnaryOp op : kUnaryOps)
      for (const int64_t n : {1, 7, 4099}) {
        SCOPED_TRACE(std::string(to_string(dtype)) + ", op " + std::to_string(static_cast<int>(op)));
        const Tensor x = rounded_to(with_special_values({n}, 1, 2), dtype);
        const Tensor dy = rounded_to(random_tensor({n}, 2), dtype);
        Tensor expected = empty_like(x), dx = empty({n}, dtype);
        cpu_kernels().unary_backward(op, x, dy, expected);
        gpu().unary_backward(op, there(x, dtype), there(dy, dtype), dx);
        // Where a slope crosses 0, what is left of its terms has the error of numbers near 1.
        expect_rounded(back(dx), expected, dtype, 1e-6, 3e-6);
      }
}

TEST_F(ElementwiseBackward, Clamp) {
  for (const DType dtype : kFloats) {
    Tensor x = rounded_to(with_special_values({2003}, 3, 2), dtype);
    x.data<float>()[1000] = -0.5f, x.data<float>()[1001] = 1.25f;  // the ends are inside
    const Tensor dy = rounded_to(random_tensor({2003}, 4), dtype);
    Tensor expected = empty_like(x), dx = empty({2003}, dtype);
    cpu_kernels().clamp_backward(x, -0.5f, 1.25f, dy, expected);
    gpu().clamp_backward(there(x, dtype), -0.5f, 1.25f, there(dy, dtype), dx);
    expect_rounded(back(dx), expected, DType::F32);
    EXPECT_EQ(expected.data<float>()[1000], dy.data<float>()[1000]);
  }
}

TEST_F(ElementwiseBackward, Geglu) {
  for (const DType dtype : kFloats)
    for (const int64_t D : {1, 6, 8, 136})
      for (const bool odd : {false, true}) {
        const Tensor x = rounded_to(random_tensor({19, 2 * D}, 5, 2), dtype);
        const Tensor dy = rounded_to(random_tensor({19, D}, 6), dtype);
        Tensor expected = empty_like(x), dx = empty(x.shape(), dtype);
        cpu_kernels().geglu_backward(x, dy, expected);
        const Tensor gx = there(x, dtype);
        gpu().geglu_backward(odd ? misaligned(gx) : gx, there(dy, dtype), dx);
        expect_rounded(back(dx), expected, dtype, 1e-6, 1e-5);
      }
}

TEST_F(ElementwiseBackward, Softmax) {
  for (const DType dtype : kFloats)
    for (const int64_t D : {1, 3, 77, 128, 1024, 1025, 2064})
      for (const bool odd : {false, true}) {
        SCOPED_TRACE(std::string(to_string(dtype)) + ", D " + std::to_string(D));
        const int64_t rows = D > 1000 ? 3 : 21;
        const Tensor x = random_tensor({rows, D}, 7, 2);
        Tensor y = empty_like(x);
        cpu_kernels().softmax(x, y);
        y = rounded_to(y, dtype);
        const Tensor dy = rounded_to(random_tensor({rows, D}, 8), dtype);
        Tensor expected = empty_like(x), dx = empty(x.shape(), dtype);
        cpu_kernels().softmax_backward(y, dy, expected);
        const Tensor gy = there(y, dtype);
        gpu().softmax_backward(odd ? misaligned(gy) : gy, there(dy, dtype), dx);
        expect_rounded(back(dx), expected, dtype, 1e-6, 1e-6);
      }
}

TEST_F(ElementwiseBackward, SumMiddle) {
  for (const DType dtype : kFloats)
    for (const Shape& shape : {Shape{1, 1, 1}, Shape{1, 9001, 1}, Shape{3, 5, 1}, Shape{2, 700, 3},
                               Shape{1, 300, 128}, Shape{5, 17, 100}, Shape{1, 130, 129}, Shape{1, 70, 320},
                               Shape{2, 3, 132}, Shape{7, 1, 200}, Shape{2, 0, 130}, Shape{2, 0, 3}})
      for (const bool odd : {false, true}) {
        SCOPED_TRACE(std::string(to_string(dtype)) + " " + to_string(shape));
        if (odd && shape.numel() == 0) continue;
        const Tensor x = rounded_to(random_tensor(shape, 9, 1, 0.3f), dtype);
        Tensor expected = Tensor::empty({shape[0], shape[2]});
        Guarded y(expected.shape(), dtype, device());
        cpu_kernels().sum_middle(x, expected);
        const Tensor gx = there(x, dtype);
        gpu().sum_middle(odd ? misaligned(gx) : gx, y.tensor());
        y.check();
        const double terms = std::sqrt(static_cast<double>(shape[1]));
        expect_rounded(back(y.tensor()), expected, dtype, 1e-6, 4 * terms * kEpsilon);
      }
}

TEST_F(ElementwiseBackward, SumMiddleKeepsNaN) {
  Tensor x = random_tensor({1, 3000, 3}, 10);
  x.data<float>()[7000] = NAN;
  Tensor y = empty({1, 3});
  gpu().sum_middle(there(x), y);
  const Tensor sums = back(y);
  EXPECT_FALSE(std::isnan(sums.data<float>()[0]));
  EXPECT_TRUE(std::isnan(sums.data<float>()[1]));
  EXPECT_FALSE(std::isnan(sums.data<float>()[2]));
}

TEST_F(ElementwiseBackward, OfNothing) {
  Tensor none = empty({0, 4}), half = empty({0, 2});
  gpu().unary_backward(UnaryOp::Exp, none, none, none);
  gpu().clamp_backward(none, 0, 1, none, none);
  gpu().geglu_backward(none, half, none);
  gpu().softmax_backward(none, none, none);
  Tensor x = empty({2, 3, 0}), y = empty({2, 0});
  gpu().sum_middle(x, y);
}

}  // namespace
}  // namespace sinopia::testing
