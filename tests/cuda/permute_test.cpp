#include <algorithm>
#include <numeric>

#include "tests/cuda/expect_rounded.h"

namespace sinopia::testing {
namespace {

class Permute : public OnGpu {
 protected:
  void expect_that_of_the_cpu(const Shape& shape, const std::vector<int>& axes, DType dtype,
                              bool odd = false) {
    Tensor x = Tensor::empty(shape, dtype);
    for (size_t i = 0; i < x.bytes(); ++i)
      static_cast<unsigned char*>(x.raw())[i] = static_cast<unsigned char>(i * 37 + i / 251 + i / 65537);
    std::vector<int64_t> extents;
    for (const int axis : axes) extents.push_back(shape.dim(axis));
    Tensor expected = Tensor::empty(Shape(extents), dtype);
    Guarded guarded(Shape(extents), dtype, device());
    Tensor& y = guarded.tensor();
    cpu_kernels().permute(x, axes, expected);
    gpu().permute(odd ? misaligned(there(x)) : there(x), axes, y);
    guarded.check();
    EXPECT_TRUE(same_bits(copy_to(y, Device{}), expected))
        << to_string(dtype) << " " << to_string(shape) << " -> " << to_string(y.shape());
  }
};

const std::vector<DType> kSizes{DType::U8, DType::F16, DType::F32, DType::I64};

TEST_F(Permute, EveryOrderOfFourAxes) {
  for (const DType dtype : kSizes)
    for (const Shape& shape : {Shape{2, 3, 10, 12}, Shape{3, 1, 33, 9}, Shape{12, 2, 2, 40}}) {
      std::vector<int> axes(4);
      std::iota(axes.begin(), axes.end(), 0);
      do {
        expect_that_of_the_cpu(shape, axes, dtype);
      } while (std::ranges::next_permutation(axes).found);
    }
}

TEST_F(Permute, ChannelsLastAndFirst) {
  for (const DType dtype : kSizes)
    for (const int64_t channels : {1, 3, 4, 9, 64, 100}) {
      expect_that_of_the_cpu({2, channels, 13, 17}, {0, 2, 3, 1}, dtype);
      expect_that_of_the_cpu({2, 13, 17, channels}, {0, 3, 1, 2}, dtype);
    }
}

TEST_F(Permute, Heads) {
  for (const DType dtype : kSizes)
    for (const int64_t size : {1, 2, 6, 40, 64}) {
      expect_that_of_the_cpu({2, 11, 5, size}, {0, 2, 1, 3}, dtype);
      expect_that_of_the_cpu({2, 11, 5, size}, {0, 2, 1, 3}, dtype, true);
    }
}

TEST_F(Permute, SixAxes) {
  expect_that_of_the_cpu({2, 3, 4, 2, 3, 5}, {5, 1, 3, 0, 2, 4}, DType::F32);
  expect_that_of_the_cpu({2, 3, 10, 2, 3, 12}, {2, 4, 0, 5, 3, 1}, DType::F16);
  expect_that_of_the_cpu({2, 3, 10, 2, 3, 12}, {4, 3, 5, 1, 0, 2}, DType::F16, true);
}

TEST_F(Permute, LargeMatrices) {
  for (const DType dtype : kSizes) {
    expect_that_of_the_cpu({200, 331}, {1, 0}, dtype);
    expect_that_of_the_cpu({3, 4000}, {1, 0}, dtype);
    expect_that_of_the_cpu({4000, 3}, {1, 0}, dtype, true);
  }
}

TEST_F(Permute, NothingAndOneElement) {
  expect_that_of_the_cpu({}, {}, DType::F32);
  expect_that_of_the_cpu({1, 1}, {1, 0}, DType::F32);
  expect_that_of_the_cpu({0, 3}, {1, 0}, DType::F32);
  expect_that_of_the_cpu({5, 7}, {0, 1}, DType::U8);
}

}  // namespace
}  // namespace sinopia::testing
