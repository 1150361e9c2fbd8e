#include "sinopia/train/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "sinopia/base/error.h"

namespace sinopia {
namespace {

double half_cosine(double done) { return 0.5 * (1 + std::cos(std::numbers::pi * done)); }

/// Share of the peak when `done` of the way after the warm-up lies behind, in [0,1].
double share_at(const LearningRate& rate, double done) {
  switch (rate.shape) {
    case RateShape::Linear:
      return 1 - done;
    case RateShape::Cosine:
      return half_cosine(done);
    case RateShape::Restarts: {
      const double turns = done * static_cast<double>(rate.cycles);
      return done >= 1 ? 0 : half_cosine(turns - std::floor(turns));
    }
    case RateShape::Constant:
    case RateShape::InverseSqrt:
      break;
  }
  return 1;
}

}  // namespace

double learning_rate(const LearningRate& rate, int64_t step, int64_t steps) {
  SINOPIA_CHECK(step >= 0, InvalidArgument, "[learning rate] expected a step from 0, got {}", step);
  SINOPIA_CHECK(rate.peak >= 0 && rate.warmup_steps >= 0 && rate.cycles >= 1 && rate.last_share >= 0 &&
                    rate.last_share <= 1,
                InvalidArgument,
                "[learning rate] expected a peak and a warm-up from 0, cycles from 1 and a last share in "
                "[0,1], got {}, {}, {} and {}",
                rate.peak, rate.warmup_steps, rate.cycles, rate.last_share);
  const auto at = static_cast<double>(step), warm = static_cast<double>(rate.warmup_steps);
  if (step < rate.warmup_steps) return rate.peak * at / warm;
  if (rate.shape == RateShape::InverseSqrt) {
    SINOPIA_CHECK(rate.warmup_steps > 0, InvalidArgument,
                  "[learning rate] the inverse square root needs a warm-up, which sets its scale");
    return rate.peak * std::sqrt(warm / at);
  }
  const double way = std::max(1.0, static_cast<double>(steps) - warm);
  const double share = share_at(rate, std::min(1.0, (at - warm) / way));
  return rate.peak * (rate.last_share + (1 - rate.last_share) * share);
}

double rate_with_peak(const LearningRate& rate, double given, double own_peak) {
  return own_peak > 0 && rate.peak > 0 ? given * own_peak / rate.peak : given;
}

}  // namespace sinopia
