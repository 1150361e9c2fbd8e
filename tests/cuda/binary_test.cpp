#include "tests/cuda/expect_rounded.h"

namespace sinopia::testing {
namespace {

const std::vector<BinaryOp> kBinaryOps{BinaryOp::Add,    BinaryOp::Subtract, BinaryOp::Multiply,
                                       BinaryOp::Divide, BinaryOp::Minimum,  BinaryOp::Maximum};

class Binary : public OnGpu {
 protected:
  void expect_that_of_the_cpu(BinaryOp op, const Tensor& a, const Tensor& b, const Shape& shape, DType dtype,
                              bool odd = false) {
    SCOPED_TRACE(std::string(to_string(dtype)) + " " + to_string(a.shape()) + " " + to_string(b.shape()) +
                 ", op " + std::to_string(static_cast<int>(op)));
    const Tensor ra = rounded_to(a, dtype), rb = rounded_to(b, dtype);
    Tensor expected = Tensor::empty(shape), y = empty(shape, dtype);
    cpu_kernels().binary(op, ra, rb, expected);
    const Tensor ga = there(ra, dtype), gb = there(rb, dtype);
    gpu().binary(op, odd ? misaligned(ga) : ga, gb, y);
    expect_rounded(back(y), rounded_to(expected, dtype), DType::F32);
    if (!odd) return;
    Tensor y_at_odd = misaligned_like(y);
    gpu().binary(op, ga, misaligned(gb), y_at_odd);
    expect_rounded(back(y_at_odd), rounded_to(expected, dtype), DType::F32);
  }
};

TEST_F(Binary, OfOneShape) {
  for (const DType dtype : kFloats)
    for (const BinaryOp op : kBinaryOps)
      for (const int64_t n : {1, 13, 4101}) {
        const Tensor a = with_special_values({n}, 1, 2);
        Tensor b = random_tensor({n}, 2, 2);
        if (n > 20) b.data<float>()[20] = NAN, b.data<float>()[21] = 0;
        expect_that_of_the_cpu(op, a, b, {n}, dtype);
        expect_that_of_the_cpu(op, b, a, {n}, dtype);
      }
}

TEST_F(Binary, Broadcasts) {
  struct Case {
    Shape a, b, y;
  };
  const std::vector<Case> cases{
      {{}, {}, {}},
      {{2, 5, 24}, {}, {2, 5, 24}},                                  // a number
      {{1, 1}, {3, 7}, {3, 7}},                                      // from the left
      {{3, 5, 48}, {48}, {3, 5, 48}},                                // channels
      {{3, 5, 47}, {47}, {3, 5, 47}},                                // no whole runs
      {{3, 5, 16}, {3, 1, 16}, {3, 5, 16}},                          // channels of an image
      {{3, 5, 16}, {3, 5, 1}, {3, 5, 16}},                           // rows
      {{4, 1, 16}, {1, 6, 16}, {4, 6, 16}},                          // both
      {{4, 1}, {1, 9}, {4, 9}},                                      // an outer product
      {{2, 1, 3, 1, 5, 8}, {1, 2, 1, 4, 1, 8}, {2, 2, 3, 4, 5, 8}},  // all axes
      {{2, 1, 3, 1, 5, 1}, {1, 2, 1, 4, 1, 3}, {2, 2, 3, 4, 5, 3}},
      {{5, 2, 3, 8}, {2, 3, 8}, {5, 2, 3, 8}},
      {{0, 4}, {4}, {0, 4}},
      {{1, 700, 8}, {2, 1, 8}, {2, 700, 8}},
  };
  for (const DType dtype : kFloats)
    for (const Case& c : cases) {
      const Tensor a = random_tensor(c.a, 3), b = random_tensor(c.b, 4);
      for (const BinaryOp op : {BinaryOp::Subtract, BinaryOp::Divide}) {
        expect_that_of_the_cpu(op, a, b, c.y, dtype, c.y.numel() > 0);
        expect_that_of_the_cpu(op, b, a, c.y, dtype);
      }
    }
}

TEST_F(Binary, LongBroadcasts) {
  for (const DType dtype : kFloats) {
    const Tensor a = random_tensor({2, 130, 160}, 5), b = random_tensor({2, 1, 160}, 6);
    expect_that_of_the_cpu(BinaryOp::Add, a, b, {2, 130, 160}, dtype);
    expect_that_of_the_cpu(BinaryOp::Maximum, with_special_values({1, 130, 1}, 7, 2), a, {2, 130, 160},
                           dtype);
  }
}

}  // namespace
}  // namespace sinopia::testing
