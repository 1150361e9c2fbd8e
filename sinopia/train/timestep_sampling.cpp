#include "sinopia/train/timestep_sampling.h"

#include <cmath>
#include <numbers>

#include "sinopia/base/error.h"
#include "sinopia/diffusion/schedule.h"

namespace sinopia {

double logit_normal_level(double normal, double mean, double deviation) {
  return 1 / (1 + std::exp(-(mean + deviation * normal)));
}

double mode_level(double uniform, double scale) {
  const double cosine = std::cos(std::numbers::pi / 2 * uniform);
  return 1 - uniform - scale * (cosine * cosine - 1 + uniform);
}

double cosmap_level(double uniform) { return 1 - 1 / (std::tan(std::numbers::pi / 2 * uniform) + 1); }

double resolution_shift(double pixels, double base_pixels) {
  SINOPIA_CHECK(pixels > 0 && base_pixels > 0, InvalidArgument,
                "[timesteps] expected numbers of pixels above 0, got {} and {}", pixels, base_pixels);
  return std::sqrt(pixels / base_pixels);
}

double draw_level(const TimestepSampling& sampling, Draws& draws) {
  SINOPIA_CHECK(sampling.logit_deviation > 0 && sampling.shift > 0, InvalidArgument,
                "[timesteps] expected a deviation and a shift above 0, got {} and {}",
                sampling.logit_deviation, sampling.shift);
  SINOPIA_CHECK(sampling.mode_scale >= -1 && sampling.mode_scale <= 2 / (std::numbers::pi - 2),
                InvalidArgument, "[timesteps] expected a mode scale in [-1, {:.4f}], got {}",
                2 / (std::numbers::pi - 2), sampling.mode_scale);
  double level = 0;
  switch (sampling.density) {
    case TimestepDensity::Uniform:
      level = draws.uniform();
      break;
    case TimestepDensity::LogitNormal:
      level = logit_normal_level(draws.normal(), sampling.logit_mean, sampling.logit_deviation);
      break;
    case TimestepDensity::Mode:
      level = mode_level(draws.uniform(), sampling.mode_scale);
      break;
    case TimestepDensity::CosMap:
      level = cosmap_level(draws.uniform());
      break;
  }
  return shift_flow(level, sampling.shift);
}

}  // namespace sinopia
