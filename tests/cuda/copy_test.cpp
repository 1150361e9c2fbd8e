#include "tests/cuda/expect_rounded.h"

namespace sinopia::testing {
namespace {

const std::vector<DType> kQuantised{DType::Q8_0, DType::Q6_K, DType::Q5_K, DType::Q4_K, DType::Q4_0};

/// Small whole numbers, exact in every dtype.
Tensor numbers(const Shape& shape, DType dtype, unsigned seed = 1) {
  Tensor x = random_tensor(shape, seed, 30);
  for (int64_t i = 0; i < x.numel(); ++i)
    x.data<float>()[i] = std::clamp(std::round(x.data<float>()[i]), -100.0f, 100.0f);
  return to_dtype(x, dtype);
}

using Copy = OnGpu;

TEST_F(Copy, Fill) {
  for (const DType dtype : {DType::F32, DType::F16, DType::BF16, DType::F64, DType::I8, DType::U8, DType::I16,
                            DType::I32, DType::I64, DType::Bool})
    for (const int64_t n : {0, 1, 5, 16, 3001})
      for (const float value : {0.0f, -3.7f, 65504.0f, NAN}) {
        SCOPED_TRACE(std::string(to_string(dtype)) + " " + std::to_string(n));
        Tensor expected = Tensor::empty({n}, dtype);
        cpu_kernels().fill(expected, value);
        Tensor around = empty({n + 2}, dtype);
        gpu().fill(around, 1);
        Tensor y = around.slice(1, n + 1);
        gpu().fill(y, value);
        EXPECT_TRUE(same_bits(copy_to(y, Device{}), expected));
        Tensor one = Tensor::empty({1}, dtype);
        cpu_kernels().fill(one, 1);
        EXPECT_TRUE(same_bits(copy_to(around.slice(0, 1), Device{}), one));
        EXPECT_TRUE(same_bits(copy_to(around.slice(n + 1, n + 2), Device{}), one));
      }
}

TEST_F(Copy, Concat) {
  for (const DType dtype : {DType::F32, DType::F16, DType::U8, DType::I64})
    for (int axis = 0; axis < 3; ++axis)
      for (const std::vector<int64_t>& extents : std::vector<std::vector<int64_t>>{
               {3}, {8, 4}, {5, 0, 1, 7}, {320, 160}, std::vector<int64_t>(70, 2)}) {
        std::vector<Tensor> here, gpu_side;
        int64_t sum = 0;
        for (const int64_t extent : extents) {
          here.push_back(
              numbers(Shape{2, 3, 4}.with(axis, extent), dtype, static_cast<unsigned>(here.size())));
          gpu_side.push_back(there(here.back()));
          sum += extent;
        }
        Tensor expected = Tensor::empty(Shape{2, 3, 4}.with(axis, sum), dtype),
               y = empty(expected.shape(), dtype);
        cpu_kernels().concat(here, axis, expected);
        gpu().concat(gpu_side, axis, y);
        EXPECT_TRUE(same_bits(copy_to(y, Device{}), expected)) << to_string(dtype) << " axis " << axis;
        gpu_side[0] = there(here[0]).numel() > 0 ? misaligned(gpu_side[0]) : gpu_side[0];
        Tensor y_at_odd = misaligned_like(y);
        gpu().concat(gpu_side, axis, y_at_odd);
        EXPECT_TRUE(same_bits(copy_to(y_at_odd, Device{}), expected)) << to_string(dtype) << " axis " << axis;
      }
}

TEST_F(Copy, ConcatOfNothing) {
  Tensor y = empty({0, 4});
  const std::vector<Tensor> xs{empty({0, 1}), empty({0, 3})};
  gpu().concat(xs, 1, y);
}

TEST_F(Copy, Narrow) {
  struct Case {
    int axis;
    int64_t begin, extent;
  };
  for (const DType dtype : {DType::F32, DType::BF16, DType::I8, DType::F64})
    for (const Case& c :
         std::vector<Case>{{0, 1, 2}, {1, 3, 5}, {2, 8, 16}, {2, 1, 22}, {2, 0, 24}, {1, 2, 0}}) {
      const Tensor x = numbers({4, 9, 24}, dtype);
      Tensor expected = Tensor::empty(x.shape().with(c.axis, c.extent), dtype),
             y = empty(expected.shape(), dtype);
      cpu_kernels().narrow(x, c.axis, c.begin, expected);
      gpu().narrow(there(x), c.axis, c.begin, y);
      EXPECT_TRUE(same_bits(copy_to(y, Device{}), expected)) << to_string(dtype) << " axis " << c.axis;
    }
  for (const int64_t columns : {64, 67}) {
    const Tensor x = numbers({300, columns}, DType::F16);
    Tensor expected = Tensor::empty({300, 40}, DType::F16);
    Guarded y({300, 40}, DType::F16, device());
    cpu_kernels().narrow(x, 1, 8, expected);
    gpu().narrow(there(x), 1, 8, y.tensor());
    EXPECT_TRUE(same_bits(copy_to(y.tensor(), Device{}), expected));
    y.check();
  }
}

TEST_F(Copy, GatherRows) {
  const Tensor ids = Tensor::from<int32_t>({2, 5}, {3, 0, 10, 10, 7, 1, 3, 9, 2, 10});
  for (const DType from : kFloats)
    for (const DType to : kFloats)
      for (const int64_t D : {1, 7, 8, 304}) {
        SCOPED_TRACE(std::string(to_string(from)) + " to " + to_string(to) + ", D " + std::to_string(D));
        Tensor values = random_tensor({11, D}, 5);
        values.data<float>()[3 * D] = NAN;
        const Tensor table = to_dtype(values, from);
        Tensor expected = Tensor::empty({2, 5, D}), y = empty({2, 5, D}, to);
        cpu_kernels().gather_rows(table, ids, expected);
        gpu().gather_rows(there(table), there(ids), y);
        expect_rounded(back(y), rounded_to(expected, to), DType::F32);
        gpu().gather_rows(misaligned(there(table)), there(ids), y);
        expect_rounded(back(y), rounded_to(expected, to), DType::F32);
      }
}

TEST_F(Copy, GatherQuantisedRows) {
  const Tensor ids = Tensor::from<int32_t>({6}, {3, 0, 4, 4, 1, 2});
  for (const DType from : kQuantised)
    for (const DType to : kFloats) {
      SCOPED_TRACE(std::string(to_string(from)) + " to " + to_string(to));
      Tensor table = Tensor::empty({5, 512}, from);
      cpu_kernels().convert(random_tensor({5, 512}, 6), table);
      Tensor expected = Tensor::empty({6, 512}), y = empty({6, 512}, to);
      cpu_kernels().gather_rows(table, ids, expected);
      gpu().gather_rows(there(table), there(ids), y);
      expect_rounded(back(y), rounded_to(expected, to), DType::F32);
    }
}

TEST_F(Copy, GatherNoRows) {
  Tensor y = empty({0, 8});
  gpu().gather_rows(there(random_tensor({3, 8}, 1)), empty({0}, DType::I32), y);
}

}  // namespace
}  // namespace sinopia::testing
