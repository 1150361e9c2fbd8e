#include "sinopia/diffusion/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "sinopia/base/error.h"

namespace sinopia {
namespace {

// torch.linspace in float32: each half is counted from its own end.
std::vector<float> linspace(double start, double end, int count) {
  const float first = static_cast<float>(start), last = static_cast<float>(end);
  const float step = (last - first) / static_cast<float>(count - 1);
  std::vector<float> values(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) {
    values[static_cast<size_t>(i)] = i < count / 2 ? std::fma(step, static_cast<float>(i), first)
                                                   : std::fma(-step, static_cast<float>(count - 1 - i), last);
  }
  return values;
}

std::vector<float> betas_of(const ScheduleConfig& config) {
  const int T = config.train_steps;
  std::vector<float> betas;
  switch (config.beta_schedule) {
    case BetaSchedule::Linear:
      betas = linspace(config.beta_start, config.beta_end, T);
      break;
    case BetaSchedule::ScaledLinear:
      betas = linspace(std::sqrt(config.beta_start), std::sqrt(config.beta_end), T);
      for (float& beta : betas) beta *= beta;
      break;
    case BetaSchedule::SquaredCosCapV2: {
      const auto alpha_bar = [](double u) {
        const double cosine = std::cos((u + 0.008) / 1.008 * std::numbers::pi / 2);
        return cosine * cosine;
      };
      for (int t = 0; t < T; ++t) {
        const double u1 = static_cast<double>(t) / T, u2 = static_cast<double>(t + 1) / T;
        betas.push_back(static_cast<float>(std::min(1 - alpha_bar(u2) / alpha_bar(u1), 0.999)));
      }
      break;
    }
    case BetaSchedule::Trained:
      betas.assign(config.trained_betas.begin(), config.trained_betas.end());
      break;
  }
  SINOPIA_CHECK(static_cast<int>(betas.size()) == T, InvalidArgument,
                "[schedule] expected {} trained betas, got {}", T, betas.size());
  for (const float beta : betas) {
    SINOPIA_CHECK(beta >= 0 && beta < 1, InvalidArgument, "[schedule] expected betas in [0,1), got {}", beta);
  }
  return betas;
}

// torch.cumprod multiplies floats in double and rounds each product on its way out.
std::vector<float> cumulative_product(const std::vector<float>& alphas) {
  std::vector<float> products;
  double product = 1;
  for (const float alpha : alphas) products.push_back(static_cast<float>(product *= alpha));
  return products;
}

std::vector<float> rescale_to_zero_snr(std::vector<float> alphas_cumprod) {
  std::vector<float>& root = alphas_cumprod;
  for (float& x : root) x = std::sqrt(x);
  const float first = root.front(), last = root.back();
  for (float& x : root) x = (x - last) * (first / (first - last));
  // Through alpha and beta and back, for the reference's rounding.
  std::vector<float> alphas;
  for (size_t t = 0; t < root.size(); ++t) {
    const float abar = root[t] * root[t];
    const float beta = 1.0f - (t == 0 ? abar : abar / (root[t - 1] * root[t - 1]));
    alphas.push_back(1.0f - beta);
  }
  std::vector<float> rescaled = cumulative_product(alphas);
  rescaled.back() = 0x1p-24f;
  return rescaled;
}

}  // namespace

double shift_flow(double sigma, double shift) { return shift * sigma / (1 + (shift - 1) * sigma); }

NoiseSchedule::NoiseSchedule(const ScheduleConfig& config) : config_(config) {
  SINOPIA_CHECK(config.train_steps >= 2 && config.train_steps <= 1000000, InvalidArgument,
                "[schedule] expected 2 to 1000000 training steps, got {}", config.train_steps);
  if (is_flow()) {
    SINOPIA_CHECK(config.flow_shift > 0, InvalidArgument, "[schedule] expected a flow shift > 0, got {}",
                  config.flow_shift);
    for (int t = 1; t <= config.train_steps; ++t) {
      sigmas_.push_back(shift_flow(static_cast<double>(t) / config.train_steps, config.flow_shift));
    }
    return;
  }
  std::vector<float> alphas = betas_of(config);
  for (float& x : alphas) x = 1.0f - x;
  alphas_cumprod_ = cumulative_product(alphas);
  if (config.rescale_zero_snr) alphas_cumprod_ = rescale_to_zero_snr(std::move(alphas_cumprod_));
  for (const float abar : alphas_cumprod_) {
    SINOPIA_CHECK(abar > 0, InvalidArgument, "[schedule] these betas leave no signal at the last timesteps");
    sigmas_.push_back(std::sqrt((1.0 - abar) / abar));
  }
}

double NoiseSchedule::sigma(double timestep) const {
  if (is_flow()) {
    const double s = std::clamp(timestep / config_.train_steps, 0.0, 1.0);
    return shift_flow(s, config_.flow_shift);
  }
  const double t = std::clamp(timestep, 0.0, static_cast<double>(train_steps() - 1));
  const size_t low = static_cast<size_t>(t);
  const double w = t - static_cast<double>(low);
  if (w == 0) return sigmas_[low];
  return std::exp((1 - w) * std::log(sigmas_[low]) + w * std::log(sigmas_[low + 1]));
}

double NoiseSchedule::timestep(double sigma) const {
  if (is_flow()) return config_.train_steps * std::clamp(sigma, 0.0, 1.0);
  if (sigma <= sigmas_.front()) return 0;
  if (sigma >= sigmas_.back()) return train_steps() - 1;
  const auto above = std::upper_bound(sigmas_.begin(), sigmas_.end(), sigma);
  const double high = *above, low = *(above - 1);
  const double t = static_cast<double>(above - sigmas_.begin() - 1);
  if (sigma == low) return t;
  return t + (std::log(sigma) - std::log(low)) / (std::log(high) - std::log(low));
}

Prediction parse_prediction(std::string_view name) {
  if (name == "epsilon") return Prediction::Epsilon;
  if (name == "v_prediction") return Prediction::V;
  if (name == "sample") return Prediction::Sample;
  if (name == "flow_prediction") return Prediction::Flow;
  fail(ErrorKind::InvalidArgument,
       "[schedule] expected the prediction type epsilon, v_prediction, sample or flow_prediction, got \"{}\"",
       name);
}

TimestepSpacing parse_timestep_spacing(std::string_view name) {
  if (name == "leading") return TimestepSpacing::Leading;
  if (name == "trailing") return TimestepSpacing::Trailing;
  if (name == "linspace") return TimestepSpacing::Linspace;
  fail(ErrorKind::InvalidArgument,
       "[schedule] expected the timestep spacing leading, trailing or linspace, got \"{}\"", name);
}

BetaSchedule parse_beta_schedule(std::string_view name) {
  if (name == "linear") return BetaSchedule::Linear;
  if (name == "scaled_linear") return BetaSchedule::ScaledLinear;
  if (name == "squaredcos_cap_v2") return BetaSchedule::SquaredCosCapV2;
  fail(ErrorKind::InvalidArgument,
       "[schedule] expected the beta schedule linear, scaled_linear or squaredcos_cap_v2, got \"{}\"", name);
}

}  // namespace sinopia
