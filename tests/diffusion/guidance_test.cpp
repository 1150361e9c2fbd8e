#include "sinopia/diffusion/guidance.h"

#include <cmath>
#include <random>

#include <gtest/gtest.h>

#include "sinopia/diffusion/noise_source.h"
#include "sinopia/diffusion/prediction.h"
#include "sinopia/ops/elementwise.h"

namespace sinopia {
namespace {

Tensor random_tensor(const Shape& shape, uint32_t seed, double scale = 1) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0.3f, static_cast<float>(scale));
  std::vector<float> values(static_cast<size_t>(shape.numel()));
  for (float& value : values) value = normal(engine);
  return Tensor::from<float>(shape, values);
}

TEST(Guide, AddsEachConditionsDirection) {
  const Shape shape{2, 3, 5, 4};
  const Tensor uncond = random_tensor(shape, 1), a = random_tensor(shape, 2), b = random_tensor(shape, 3);
  const WeightedOutput both[] = {{a, 1}, {b, -0.5}};
  const Tensor got = guide(uncond, both, 7.5), one = guide(uncond, a, 7.5);
  for (int64_t i = 0; i < shape.numel(); ++i) {
    const double u = uncond.data<float>()[i], x = a.data<float>()[i], y = b.data<float>()[i];
    EXPECT_NEAR(one.data<float>()[i], u + 7.5 * (x - u), 1e-5);
    EXPECT_NEAR(got.data<float>()[i], u + 7.5 * (x - u) - 3.75 * (y - u), 1e-5);
  }
  EXPECT_THROW(guide(uncond, std::span<const WeightedOutput>(), 7.5), Error);
}

TEST(RescaleGuidance, BringsEachImageToTheConditionsDeviation) {
  const Shape shape{2, 3, 5, 4};
  const Tensor guided = random_tensor(shape, 4, 3), cond = random_tensor(shape, 5);
  const Tensor got = rescale_guidance(guided, cond, 0.7);
  const int64_t n = shape.numel() / 2;
  const auto deviation = [n](const float* x) {
    double mean = 0, square = 0;
    for (int64_t i = 0; i < n; ++i) mean += x[i] / static_cast<double>(n);
    for (int64_t i = 0; i < n; ++i) square += (x[i] - mean) * (x[i] - mean);
    return std::sqrt(square / static_cast<double>(n - 1));
  };
  for (int64_t image = 0; image < 2; ++image) {
    const float* g = guided.data<float>() + image * n;
    const double factor = 0.7 * deviation(cond.data<float>() + image * n) / deviation(g) + 0.3;
    for (int64_t i = 0; i < n; ++i) EXPECT_NEAR(got.data<float>()[image * n + i], g[i] * factor, 1e-5);
  }
  EXPECT_EQ(rescale_guidance(guided, cond, 0).to_vector<float>(), guided.to_vector<float>());
  EXPECT_THROW(rescale_guidance(guided, cond, 1.1), Error);
}

// A network that is right about x0 and eps must give x0 back, however it says so.
TEST(ToX0, InvertsEveryPrediction) {
  const Shape shape{1, 2, 3, 4};
  const Tensor x0 = random_tensor(shape, 6), eps = random_tensor(shape, 7);
  for (const double sigma : {0.03, 0.7, 14.6}) {
    const Tensor x = add_noise(Prediction::Epsilon, x0, eps, sigma);
    const double alpha = 1 / std::sqrt(1 + sigma * sigma);
    EXPECT_DOUBLE_EQ(input_scale(Prediction::V, sigma), alpha);
    const std::pair<Prediction, Tensor> outputs[] = {{Prediction::Epsilon, eps},
                                                     {Prediction::V, eps * alpha - x0 * (sigma * alpha)},
                                                     {Prediction::Sample, x0}};
    for (const auto& [prediction, output] : outputs) {
      const Tensor got = to_x0(prediction, output, x, sigma);
      for (int64_t i = 0; i < shape.numel(); ++i) {
        EXPECT_NEAR(got.data<float>()[i], x0.data<float>()[i], 4e-7 * (1 + 4 * sigma));
      }
    }
  }
  const Tensor x = add_noise(Prediction::Flow, x0, eps, 0.6);
  const Tensor got = to_x0(Prediction::Flow, eps - x0, x, 0.6);
  EXPECT_EQ(input_scale(Prediction::Flow, 0.6), 1);
  for (int64_t i = 0; i < shape.numel(); ++i) EXPECT_NEAR(got.data<float>()[i], x0.data<float>()[i], 1e-6);
}

TEST(IndependentNoise, GivesEachImageWhatItIsAlone) {
  const auto source = [](std::vector<uint64_t> seeds) {
    std::vector<std::shared_ptr<NoiseGenerator>> generators;
    for (const uint64_t seed : seeds) generators.push_back(make_generator(RngKind::TorchCpu, seed));
    const auto count = static_cast<int64_t>(seeds.size());
    return independent_noise(std::move(generators), {count, 3, 5, 4});
  };
  const NoiseSource batch = source({7, 8}), alone = source({8});
  for (int call = 0; call < 2; ++call) {
    const Tensor x = batch(2, 1);
    EXPECT_EQ(x.shape(), (Shape{2, 3, 5, 4}));
    EXPECT_EQ(x.slice(1, 2).to_vector<float>(), alone(2, 1).to_vector<float>());
  }
  EXPECT_THROW(independent_noise({}, {1, 3, 5, 4}), Error);
}

TEST(CosineSimilarity, IsThatOfAllElements) {
  const Shape shape{1, 3, 5, 4};
  const Tensor a = random_tensor(shape, 6), b = random_tensor(shape, 7);
  double ab = 0, aa = 0, bb = 0;
  for (int64_t i = 0; i < shape.numel(); ++i) {
    const double x = a.data<float>()[i], y = b.data<float>()[i];
    ab += x * y, aa += x * x, bb += y * y;
  }
  EXPECT_NEAR(cosine_similarity(a, b), ab / std::sqrt(aa * bb), 1e-6);
  EXPECT_NEAR(cosine_similarity(a, a * -3.0), -1, 1e-6);
  EXPECT_EQ(cosine_similarity(a, a * 0.0), 1);
  EXPECT_THROW(cosine_similarity(a, random_tensor({1, 3, 5, 2}, 8)), Error);
}

}  // namespace
}  // namespace sinopia
