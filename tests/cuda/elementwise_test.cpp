#include "tests/cuda/expect_rounded.h"

namespace sinopia::testing {
namespace {

const std::vector<UnaryOp> kUnaryOps{UnaryOp::Silu,     UnaryOp::Gelu, UnaryOp::GeluTanh, UnaryOp::QuickGelu,
                                     UnaryOp::Relu,     UnaryOp::Tanh, UnaryOp::Sigmoid,  UnaryOp::Exp,
                                     UnaryOp::Log,      UnaryOp::Sqrt, UnaryOp::Abs,      UnaryOp::Square,
                                     UnaryOp::LeakyRelu};

// 1 + erf has the error of a number near 1, whatever remains of it.
double absolute_error(UnaryOp op) { return op == UnaryOp::Gelu ? 1e-6 : 1e-44; }

using Elementwise = OnGpu;

TEST_F(Elementwise, UnaryIsThatOfTheCpu) {
  for (const DType dtype : kFloats)
    for (const UnaryOp op : kUnaryOps)
      for (const int64_t n : {1, 7, 1000, 8193}) {
        SCOPED_TRACE(std::string(to_string(dtype)) + ", op " + std::to_string(static_cast<int>(op)) + ", " +
                     std::to_string(n));
        const Tensor x = rounded_to(with_special_values({n}, 1, 3), dtype);
        Tensor expected = empty_like(x);
        cpu_kernels().unary(op, x, expected);
        Guarded y({n}, dtype, device());
        gpu().unary(op, there(x, dtype), y.tensor());
        expect_rounded(back(y.tensor()), expected, dtype, 6e-7, absolute_error(op));
        y.check();
      }
}

TEST_F(Elementwise, UnaryOfMisalignedTensors) {
  for (const DType dtype : kFloats) {
    const Tensor x = rounded_to(random_tensor({1, 3, 1001}, 2), dtype);
    Tensor expected = empty_like(x);
    cpu_kernels().unary(UnaryOp::Silu, x, expected);
    const Tensor at_odd = misaligned(there(x, dtype));
    Tensor y = empty(x.shape(), dtype), y_at_odd = misaligned_like(at_odd);
    gpu().unary(UnaryOp::Silu, at_odd, y);
    expect_rounded(back(y), expected, dtype, 6e-7);
    gpu().unary(UnaryOp::Silu, there(x, dtype), y_at_odd);
    expect_rounded(back(y_at_odd), expected, dtype, 6e-7);
  }
}

TEST_F(Elementwise, AffineRoundsTwiceAndMayStayInPlace) {
  for (const DType dtype : kFloats)
    for (const int64_t n : {3, 4099}) {
      const Tensor x = rounded_to(with_special_values({n}, 3, 3), dtype);
      Tensor expected = empty_like(x);
      cpu_kernels().affine(x, 1.7f, -0.3f, expected);
      expected = rounded_to(expected, dtype);
      Tensor y = empty({n}, dtype), in_place = there(x, dtype);
      gpu().affine(in_place, 1.7f, -0.3f, y);
      expect_rounded(back(y), expected, DType::F32);
      gpu().affine(in_place, 1.7f, -0.3f, in_place);
      expect_rounded(back(in_place), expected, DType::F32);
    }
}

TEST_F(Elementwise, ClampKeepsNaN) {
  for (const DType dtype : kFloats) {
    const Tensor x = rounded_to(with_special_values({3, 701}, 4, 3), dtype);
    Tensor expected = empty_like(x), y = empty(x.shape(), dtype);
    cpu_kernels().clamp(x, -1.25f, 0.5f, expected);
    gpu().clamp(there(x, dtype), -1.25f, 0.5f, y);
    expect_rounded(back(y), expected, DType::F32);
    EXPECT_TRUE(std::isnan(back(y).data<float>()[0]));
  }
}

TEST_F(Elementwise, Geglu) {
  for (const DType dtype : kFloats)
    for (const int64_t D : {1, 5, 8, 40, 264})
      for (const bool odd : {false, true}) {
        SCOPED_TRACE(std::string(to_string(dtype)) + ", D " + std::to_string(D));
        const Tensor x = rounded_to(with_special_values({2, 17, 2 * D}, 5, 2), dtype);
        Tensor expected = Tensor::empty({2, 17, D});
        cpu_kernels().geglu(x, expected);
        Tensor y = empty({2, 17, D}, dtype);
        gpu().geglu(odd ? misaligned(there(x, dtype)) : there(x, dtype), y);
        expect_rounded(back(y), expected, dtype, 6e-7, 1e-5);
      }
}

TEST_F(Elementwise, OfNothing) {
  Tensor none = empty({0, 4}), y = empty({0, 2});
  gpu().unary(UnaryOp::Exp, none, none);
  gpu().affine(none, 1, 2, none);
  gpu().clamp(none, 1, 2, none);
  gpu().geglu(none, y);
}

}  // namespace
}  // namespace sinopia::testing
