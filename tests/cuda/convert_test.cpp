#include "tests/cuda/expect_rounded.h"

namespace sinopia::testing {
namespace {

const std::vector<DType> kSources{DType::F32, DType::F16, DType::BF16, DType::F64, DType::I8,
                                  DType::U8,  DType::I16, DType::I32,  DType::I64, DType::Bool};
const std::vector<DType> kQuantised{DType::Q8_0, DType::Q6_K, DType::Q5_K, DType::Q4_K, DType::Q4_0};

bool is_float(DType dtype) {
  return dtype == DType::F32 || dtype == DType::F16 || dtype == DType::BF16 || dtype == DType::F64;
}

/// Like same_bits, but any NaN is as good as another.
void expect_same(const Tensor& got, const Tensor& expected) {
  if (!is_float(got.dtype())) {
    EXPECT_TRUE(same_bits(got, expected));
    return;
  }
  Tensor a = Tensor::empty(got.shape(), DType::F64), b = a.numel() ? empty_like(a) : a;
  cpu_kernels().convert(got, a);
  cpu_kernels().convert(expected, b);
  for (int64_t i = 0; i < a.numel(); ++i) {
    const double x = a.data<double>()[i], y = b.data<double>()[i];
    ASSERT_TRUE(x == y || (std::isnan(x) && std::isnan(y))) << "at " << i << ": " << x << ", not " << y;
  }
}

Tensor source(DType dtype, int64_t n) {
  if (is_float(dtype)) {
    Tensor x = with_special_values({n}, 1, 50);
    const std::vector<float> ends{
        127.5f,   128,       -128.7f,       -129,         255.9f,       256,           32767.5f,
        32768,    -32768.9f, -32769,        2147483520.f, 2147483648.f, -2147483648.f, -3e9f,
        65519.9f, 65520,     9.2233715e18f, 9.223372e18f, -9.3e18f,     1.00390625f,   1.01171875f,
        2049,     2051,      5.96e-8f,      2.9e-8f,      3.0e-8f};
    for (size_t i = 0; i < ends.size() && i * 5 + 1 < static_cast<size_t>(n); ++i)
      x.data<float>()[i * 5 + 1] = ends[i];
    Tensor y = Tensor::empty({n}, dtype);
    cpu_kernels().convert(x, y);
    return y;
  }
  Tensor x = Tensor::empty({n}, dtype);
  std::mt19937 engine(2);
  auto* bytes = static_cast<unsigned char*>(x.raw());
  for (size_t i = 0; i < x.bytes(); ++i)
    bytes[i] = static_cast<unsigned char>(dtype == DType::Bool ? engine() % 2 : engine());
  return x;
}

using Convert = OnGpu;

TEST_F(Convert, EveryDtypeToEveryOther) {
  for (const DType from : kSources)
    for (const DType to : kSources)
      for (const int64_t n : {0, 1, 7, 4103}) {
        if (to == DType::Bool && from != DType::Bool) continue;
        SCOPED_TRACE(std::string(to_string(from)) + " to " + to_string(to) + ", " + std::to_string(n));
        const Tensor x = source(from, n);
        Tensor expected = Tensor::empty({n}, to), y = empty({n}, to);
        cpu_kernels().convert(x, expected);
        gpu().convert(there(x), y);
        expect_same(copy_to(y, Device{}), expected);
      }
}

TEST_F(Convert, Misaligned) {
  for (const DType from : kFloats)
    for (const DType to : kFloats) {
      const Tensor x = source(from, 1003);
      Tensor expected = Tensor::empty({1003}, to), y = empty({1003}, to);
      cpu_kernels().convert(x, expected);
      gpu().convert(misaligned(there(x)), y);
      expect_same(copy_to(y, Device{}), expected);
      Tensor y_at_odd = misaligned_like(y);
      gpu().convert(there(x), y_at_odd);
      expect_same(copy_to(y_at_odd, Device{}), expected);
    }
}

TEST_F(Convert, FromQuantised) {
  for (const DType from : kQuantised)
    for (const DType to : {DType::F32, DType::F16, DType::BF16, DType::F64, DType::I8}) {
      SCOPED_TRACE(std::string(to_string(from)) + " to " + to_string(to));
      Tensor x = Tensor::empty({3, 768}, from);
      cpu_kernels().convert(random_tensor({3, 768}, 3, 4), x);
      Tensor expected = Tensor::empty({3, 768}, to), y = empty({3, 768}, to);
      cpu_kernels().convert(x, expected);
      gpu().convert(there(x), y);
      expect_same(copy_to(y, Device{}), expected);
    }
}

// Every bit pattern of scales and numbers, not only those that quantising makes.
TEST_F(Convert, FromAnyBlocks) {
  for (const DType from : kQuantised) {
    SCOPED_TRACE(to_string(from));
    Tensor x = Tensor::empty({40, 256}, from);
    std::mt19937 engine(4);
    for (size_t i = 0; i < x.bytes(); ++i)
      static_cast<unsigned char*>(x.raw())[i] = static_cast<unsigned char>(engine());
    Tensor expected = Tensor::empty({40, 256}), y = empty({40, 256});
    cpu_kernels().convert(x, expected);
    gpu().convert(there(x), y);
    expect_same(copy_to(y, Device{}), expected);
  }
}

TEST_F(Convert, ToQuantised) {
  for (const DType to : kQuantised)
    for (const DType from : kFloats) {
      const Tensor x = to_dtype(random_tensor({2, 512}, 5), from);
      Tensor expected = Tensor::empty({2, 512}, to), y = empty({2, 512}, to);
      cpu_kernels().convert(x, expected);
      gpu().convert(there(x), y);
      EXPECT_TRUE(same_bits(copy_to(y, Device{}), expected)) << to_string(from) << " to " << to_string(to);
    }
  Tensor y = empty({32}, DType::Q8_0);
  expect_error(ErrorKind::InvalidArgument, "", [&] {
    Tensor x = random_tensor({32}, 6);
    x.data<float>()[3] = NAN;
    gpu().convert(there(x), y);
  });
}

}  // namespace
}  // namespace sinopia::testing
