#include "sinopia/train/data/degradation.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>
#include <vector>

#include "sinopia/base/error.h"
#include "sinopia/train/data/degradation_steps.h"

namespace sinopia {
namespace {

enum class Step { Blur, Shrink, ShrinkToSize, Noise, Jpeg, Camera };

void check(const Degradation& options) {
  constexpr int64_t kMostRadius = 64;
  const bool probabilities =
      is_probability(options.anisotropic_probability) && is_probability(options.halving_probability) &&
      is_probability(options.filter_probability) && is_probability(options.gray_probability) &&
      is_probability(options.color_probability) &&
      is_probability(options.gray_probability + options.color_probability) &&
      is_probability(options.camera_probability) && is_probability(options.jpeg_probability);
  SINOPIA_CHECK(
      probabilities && options.blurs >= 0 && options.blurs <= 16 && options.blur_scale >= 0 &&
          std::isfinite(options.blur_scale) && options.anisotropic_radius.is_within(0, kMostRadius) &&
          options.isotropic_radius.is_within(0, kMostRadius) && options.noise_level.is_within(0, 255) &&
          options.jpeg_quality.is_within(1, 100),
      InvalidArgument,
      "[degradation] expected probabilities in [0,1], up to 16 blurs, radii up to {}, noise up to 255, "
      "qualities of 1 to 100",
      kMostRadius + 0);
}

RescaleFilter draw_filter(Draws& draws) {
  constexpr RescaleFilter kFilters[] = {RescaleFilter::Bilinear, RescaleFilter::Bicubic, RescaleFilter::Area};
  return kFilters[draws.integer(3)];
}

Tensor random_blur(const Tensor& x, int factor, const Degradation& options, Draws& draws) {
  if (draws.chance(options.anisotropic_probability)) {
    const double most = (4 + factor) * options.blur_scale;
    const auto radius = static_cast<int>(options.anisotropic_radius.draw(draws));
    const double angle = std::numbers::pi * draws.uniform();
    const double a = most * draws.uniform(), b = most * draws.uniform();
    return blur(x, gaussian_kernel(radius, a, b, angle));
  }
  const auto radius = static_cast<int>(options.isotropic_radius.draw(draws));
  const double deviation = (2 + 0.2 * factor) * options.blur_scale * draws.uniform();
  return blur(x, gaussian_kernel(radius, deviation * deviation, deviation * deviation, 0));
}

Tensor shrink(const Tensor& x, int factor, const Degradation& options, Draws& draws) {
  if (draws.chance(options.filter_probability)) {
    const double by = RealRange{1, 2.0 * factor}.draw(draws);
    const auto side = [&](int axis) {
      return std::max<int64_t>(static_cast<int64_t>(static_cast<double>(x.dim(axis)) / by), 1);
    };
    return rescale(x, side(0), side(1), draw_filter(draws));
  }
  // Centred on the middle of the factor x factor pixels of which the first is kept.
  constexpr int kRadius = 12;
  const double deviation = RealRange{0.1, 0.6 * factor}.draw(draws);
  const double shift = std::min((factor - 1) / 2.0, static_cast<double>(kRadius));
  const Tensor kernel = gaussian_kernel(kRadius, deviation * deviation, deviation * deviation, 0, shift);
  return decimate(blur(x, kernel), factor);
}

Tensor random_noise(const Tensor& x, const Degradation& options, Draws& draws) {
  const double deviation = static_cast<double>(options.noise_level.draw(draws)) / 255;
  const double kind = draws.uniform();
  if (kind < options.gray_probability) return add_gaussian_noise(x, gray_noise(deviation), draws);
  if (kind < options.gray_probability + options.color_probability)
    return add_gaussian_noise(x, color_noise(deviation), draws);
  const double most = static_cast<double>(options.noise_level.high) / 255;
  return add_gaussian_noise(x, correlated_noise(most, draws), draws);
}

// Section 3.1 of Brooks et al. 2019: shot noise evenly by its logarithm, read noise on a line over it.
Tensor random_camera_noise(const Tensor& x, Draws& draws) {
  const double log_shot = RealRange{std::log(0.0001), std::log(0.012)}.draw(draws);
  const double log_read = 2.18 * log_shot + 1.2 + 0.26 * draws.normal();
  return add_camera_noise(x, std::exp(log_shot), std::exp(log_read), draws);
}

std::vector<Step> draw_order(const Degradation& options, Draws& draws) {
  std::vector<Step> order{Step::Shrink, Step::ShrinkToSize, Step::Noise, Step::Jpeg, Step::Camera};
  order.insert(order.end(), static_cast<size_t>(options.blurs), Step::Blur);
  for (size_t i = order.size() - 1; i > 0; --i)
    std::swap(order[i], order[static_cast<size_t>(draws.integer(static_cast<int64_t>(i) + 1))]);
  const auto first = std::ranges::find(order, Step::Shrink),
             last = std::ranges::find(order, Step::ShrinkToSize);
  if (last < first) std::iter_swap(first, last);
  return order;
}

}  // namespace

Degradation light_degradation() {
  Degradation light;
  light.blurs = 1;
  light.anisotropic_radius = {2, 6};
  light.isotropic_radius = {2, 3};
  light.blur_scale = 0.25;
  light.filter_probability = 0.8;
  light.noise_level = {1, 2};
  light.camera_probability = 0;
  light.jpeg_quality = {80, 95};
  return light;
}

Tensor degrade(const Tensor& x, int factor, const Degradation& options, Draws draws) {
  SINOPIA_CHECK(
      x.defined() && x.dtype() == DType::F32 && x.device().is_cpu() && x.rank() == 3 && x.dim(2) == 3,
      InvalidArgument, "[degradation] expected f32 [H,W,3] on the CPU, got {}", describe(x));
  SINOPIA_CHECK(factor >= 1 && x.numel() > 0 && x.dim(0) % factor == 0 && x.dim(1) % factor == 0,
                InvalidArgument, "[degradation] expected sides in multiples of {}, got {}", factor,
                describe(x));
  check(options);
  const int64_t height = x.dim(0) / factor, width = x.dim(1) / factor;
  Tensor y = empty_like(x);
  std::ranges::transform(x.values<float>(), y.data<float>(),
                         [](float v) { return std::clamp(v * 0.5f + 0.5f, 0.0f, 1.0f); });
  if (factor == 4 && draws.chance(options.halving_probability)) {
    const RescaleFilter filter = draws.chance(0.5) ? draw_filter(draws) : RescaleFilter::Sharp;
    y = rescale(y, y.dim(0) / 2, y.dim(1) / 2, filter);
    factor = 2;
  }
  for (const Step step : draw_order(options, draws)) {
    switch (step) {
      case Step::Blur:
        y = random_blur(y, factor, options, draws);
        break;
      case Step::Shrink:
        y = shrink(y, factor, options, draws);
        break;
      case Step::ShrinkToSize:
        y = rescale(y, height, width, draw_filter(draws));
        break;
      case Step::Noise:
        y = random_noise(y, options, draws);
        break;
      case Step::Jpeg:
        if (draws.chance(options.jpeg_probability))
          y = jpeg_round_trip(y, static_cast<int>(options.jpeg_quality.draw(draws)));
        break;
      case Step::Camera:
        if (draws.chance(options.camera_probability)) y = random_camera_noise(y, draws);
        break;
    }
  }
  y = jpeg_round_trip(y, static_cast<int>(options.jpeg_quality.draw(draws)));
  float* values = y.data<float>();
  for (int64_t i = 0; i < y.numel(); ++i) values[i] = 2 * values[i] - 1;
  return y;
}

}  // namespace sinopia
