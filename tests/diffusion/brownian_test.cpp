#include "sinopia/diffusion/brownian.h"

#include <cmath>

#include <gtest/gtest.h>

#include "golden.h"

namespace sinopia {
namespace {

TEST(BrownianNoise, IsThatOfTorchsde) {
  const TensorFile& golden = golden_file("brownian");
  const std::vector<std::pair<double, double>> pairs = golden_cases(golden).at("pairs");
  for (const uint64_t seed :
       {uint64_t{0}, uint64_t{1234}, (uint64_t{1} << 31) + 9, (uint64_t{1} << 40) + 3}) {
    // The second image must not change the first.
    const NoiseSource noise = brownian_noise(RngKind::TorchCpu, {seed, 5}, {2, 3, 5, 4}, 0.0292, 14.6146);
    const Tensor& expected = golden.tensors.at("noise." + std::to_string(seed));
    for (size_t k = 0; k < pairs.size(); ++k) {
      const Tensor got = noise(pairs[k].first, pairs[k].second);
      ASSERT_EQ(got.shape(), (Shape{2, 3, 5, 4}));
      const auto at = static_cast<int64_t>(k);
      const auto want = expected.slice(at, at + 1).values<float>();
      // A difference of sums of the path's size, about 4, over the root of the distance.
      const double tolerance = 4e-7 * 4 / std::sqrt(std::abs(pairs[k].first - pairs[k].second)) + 1e-6;
      for (size_t i = 0; i < want.size(); ++i) {
        ASSERT_NEAR(got.data<float>()[i], want[i], tolerance) << seed << " " << k << " " << i;
      }
    }
  }
}

TEST(BrownianNoise, AddsUpAndHasUnitVariance) {
  const Shape shape{1, 64, 64, 4};
  const NoiseSource noise = brownian_noise(RngKind::CudaPhilox, {3}, shape, 0.03, 14.6);
  const Tensor ab = noise(9, 4), bc = noise(4, 1.5), ac = noise(9, 1.5);
  double square = 0;
  for (int64_t i = 0; i < shape.numel(); ++i) {
    const double sum = ab.data<float>()[i] * std::sqrt(5.0) + bc.data<float>()[i] * std::sqrt(2.5);
    ASSERT_NEAR(sum, ac.data<float>()[i] * std::sqrt(7.5), 1e-5);
    square += static_cast<double>(bc.data<float>()[i]) * bc.data<float>()[i];
  }
  // The variance of 16384 squares of deviation sqrt(2): five standard errors.
  EXPECT_NEAR(square / static_cast<double>(shape.numel()), 1, 5 * std::sqrt(2.0 / 16384));
}

TEST(BrownianNoise, RefusesBadArguments) {
  EXPECT_THROW(brownian_noise(RngKind::TorchCpu, {1}, {2, 3, 5, 4}, 0.03, 14), Error);
  EXPECT_THROW(brownian_noise(RngKind::TorchCpu, {1}, {1, 3, 5, 4}, 14, 0.03), Error);
}

}  // namespace
}  // namespace sinopia
