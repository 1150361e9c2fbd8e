#include "sinopia/backend/cuda/philox.h"

#include <fmt/format.h>

#include "sinopia/tensor/random.h"
#include "tests/cuda/on_gpu.h"

namespace sinopia {
namespace {

using namespace testing;

class CudaPhilox : public OnGpu {
 protected:
  Tensor drawn(uint64_t seed, uint64_t offset, int64_t count, DType dtype = DType::F32) const {
    Tensor y = empty({count}, dtype);
    cuda::philox_normal(seed, offset, y);
    return back(y);
  }
};

// Doubles rounded to f32 on both sides: the last bit may differ where a double is near the middle of two f32.
constexpr double kLastBit = 2 * kEpsilon;

TEST_F(CudaPhilox, DrawsWhatTheGeneratorDraws) {
  for (const uint64_t seed : {uint64_t{0}, uint64_t{42}, uint64_t{0xfedcba9876543210}}) {
    CudaPhiloxGenerator generator(seed);
    uint64_t offset = 0;
    for (const int64_t count : {1, 2, 5, 511, 512, 0, 4097}) {
      SCOPED_TRACE(fmt::format("seed {}, draw {} of {}", seed, offset, count));
      Tensor expected = Tensor::empty({count});
      generator.normal({expected.data<float>(), static_cast<size_t>(count)});
      expect_close(drawn(seed, offset, count), doubles(expected), 0, kLastBit);
      for (const DType dtype : {DType::F16, DType::BF16})
        expect_close(drawn(seed, offset, count, dtype), doubles(expected), 0x1p-25,
                     kLastBit + epsilon_of(dtype));
      ++offset;
    }
  }
}

TEST_F(CudaPhilox, FarOffsets) {
  CudaPhiloxGenerator generator(7);
  std::vector<float> expected(3);
  for (int i = 0; i <= 1000; ++i) generator.normal(expected);
  expect_close(drawn(7, 1000, 3), std::vector<double>(expected.begin(), expected.end()), 0, kLastBit);
}

TEST_F(CudaPhilox, FromTheMiddleOfATensor) {
  for (const DType dtype : kFloats) {
    const Tensor all = drawn(3, 2, 100, dtype);
    Tensor target = empty({101}, dtype), y = target.slice(1, 101);
    cuda::philox_normal(3, 2, y);
    EXPECT_TRUE(same_bits(back(y), all));
  }
}

}  // namespace
}  // namespace sinopia
