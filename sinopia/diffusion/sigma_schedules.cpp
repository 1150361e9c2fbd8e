#include "sinopia/diffusion/sigma_schedules.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "sinopia/base/error.h"
#include "sinopia/diffusion/beta_quantile.h"
#include "sinopia/diffusion/names.h"
#include "sinopia/diffusion/sigma_tables.h"

namespace sinopia {
namespace {

// `steps` values of level(u), u from 0 to 1 inclusive, then 0.
template <class Level>
Sigmas over_unit_interval(int steps, const Level& level) {
  Sigmas sigmas;
  for (int i = 0; i < steps; ++i)
    sigmas.push_back(level(steps == 1 ? 0.0 : static_cast<double>(i) / (steps - 1)));
  sigmas.push_back(0);
  return sigmas;
}

// k-diffusion's DiscreteSchedule.get_sigmas: even steps in t, both ends included.
Sigmas discrete(const NoiseSchedule& schedule, int steps) {
  const double first = schedule.timestep(schedule.sigma_max()),
               last = schedule.timestep(schedule.sigma_min());
  return over_unit_interval(steps, [&](double u) { return schedule.sigma(first + u * (last - first)); });
}

// generative-models' discretization as in ComfyUI: even steps in t of which the last is left out.
Sigmas sgm_uniform(const NoiseSchedule& schedule, int steps) {
  const double first = schedule.timestep(schedule.sigma_max()),
               last = schedule.timestep(schedule.sigma_min());
  Sigmas sigmas;
  for (int i = 0; i < steps; ++i) sigmas.push_back(schedule.sigma(first + (last - first) * i / steps));
  sigmas.push_back(0);
  return sigmas;
}

Sigmas simple(const NoiseSchedule& schedule, int steps) {
  const std::span<const double> table = schedule.sigmas();
  const double stride = static_cast<double>(table.size()) / steps;
  Sigmas sigmas;
  for (int i = 0; i < steps; ++i) sigmas.push_back(table[table.size() - 1 - static_cast<size_t>(i * stride)]);
  sigmas.push_back(0);
  return sigmas;
}

// CompVis' DDIM timesteps, 1 + k (T / steps). When T is no multiple of steps there can be one more than asked
// for.
Sigmas ddim_uniform(const NoiseSchedule& schedule, int steps) {
  const std::span<const double> table = schedule.sigmas();
  const size_t stride = std::max<size_t>(table.size() / static_cast<size_t>(steps), 1);
  Sigmas sigmas{0};
  for (size_t t = 1; t < table.size(); t += stride) sigmas.push_back(table[t]);
  std::reverse(sigmas.begin(), sigmas.end());
  return sigmas;
}

// Over the timesteps as in the paper and ComfyUI; repeated timesteps are left out.
Sigmas beta_timesteps(const NoiseSchedule& schedule, int steps) {
  const std::span<const double> table = schedule.sigmas();
  Sigmas sigmas;
  size_t last = table.size();
  for (int i = 0; i < steps; ++i) {
    const double u = beta_quantile(1 - static_cast<double>(i) / steps, 0.6, 0.6);
    const size_t t = static_cast<size_t>(std::nearbyint(u * static_cast<double>(table.size() - 1)));
    if (t != last) sigmas.push_back(table[t]);
    last = t;
  }
  sigmas.push_back(0);
  return sigmas;
}

// A table of levels brought to steps+1 by even steps in log sigma against the index; the last becomes 0.
Sigmas log_interpolated(std::span<const double> table, int steps) {
  Sigmas sigmas;
  const double last = static_cast<double>(table.size() - 1);
  for (int i = 0; i < steps; ++i) {
    const double position = last * i / steps;
    const size_t low = static_cast<size_t>(position);
    const double w = position - static_cast<double>(low);
    sigmas.push_back(w == 0 ? table[low]
                            : std::exp((1 - w) * std::log(table[low]) + w * std::log(table[low + 1])));
  }
  sigmas.push_back(0);
  return sigmas;
}

// Genmo's schedule for flow models as in ComfyUI: linear down to 1 - 0.025, quadratic from there.
Sigmas linear_quadratic(const NoiseSchedule& schedule, int steps) {
  if (steps == 1) return {schedule.sigma_max(), 0};
  constexpr double kThreshold = 0.025;
  const int linear = steps / 2, quadratic = steps - linear;
  const double gap = linear - kThreshold * steps;
  const double a = gap / (linear * static_cast<double>(quadratic * quadratic));
  const double b = kThreshold / linear - 2 * gap / static_cast<double>(quadratic * quadratic);
  const double c = a * linear * linear;
  Sigmas sigmas;
  for (int i = 0; i < steps; ++i) {
    const double noise = i < linear ? i * kThreshold / linear : a * i * i + b * i + c;
    sigmas.push_back(schedule.sigma_max() * (1 - noise));
  }
  sigmas.push_back(0);
  return sigmas;
}

template <Sigmas (*kSchedule)(int, double, double)>
Sigmas over_range(const NoiseSchedule& schedule, int steps) {
  return kSchedule(steps, schedule.sigma_min(), schedule.sigma_max());
}
Sigmas karras(const NoiseSchedule& schedule, int steps) {
  return karras_sigmas(steps, schedule.sigma_min(), schedule.sigma_max());
}
Sigmas polyexponential(const NoiseSchedule& schedule, int steps) {
  return polyexponential_sigmas(steps, schedule.sigma_min(), schedule.sigma_max());
}
Sigmas beta(const NoiseSchedule& schedule, int steps) {
  return beta_sigmas(steps, schedule.sigma_min(), schedule.sigma_max());
}
Sigmas align_your_steps(const NoiseSchedule&, int steps) {
  return log_interpolated(align_your_steps_table(false), steps);
}
Sigmas align_your_steps_sdxl(const NoiseSchedule&, int steps) {
  return log_interpolated(align_your_steps_table(true), steps);
}
Sigmas gits(const NoiseSchedule&, int steps) {
  return log_interpolated(gits_table(std::clamp(steps, 2, 20)), steps);
}

constexpr std::string_view kNormalNames[] = {"normal", "default", "uniform"};
constexpr std::string_view kSgmNames[] = {"sgm uniform"};
constexpr std::string_view kDdimNames[] = {"ddim"};
constexpr std::string_view kKlNames[] = {"kl optimal"};
constexpr std::string_view kAysNames[] = {"align your steps", "ays"};

constexpr SigmaScheduleInfo kSchedules[] = {
    {"discrete", kNormalNames, "even steps in the model's timesteps", discrete},
    {"karras", {}, "even steps in sigma^(1/7)", karras},
    {"exponential", {}, "even steps in log sigma", over_range<exponential_sigmas>},
    {"polyexponential", {}, "even steps in a power of log sigma", polyexponential},
    {"sgm_uniform", kSgmNames, "even timesteps without the last", sgm_uniform},
    {"simple", {}, "every n-th of the model's levels, from the noisiest", simple},
    {"ddim_uniform", kDdimNames, "CompVis' DDIM timesteps", ddim_uniform},
    {"beta", {}, "quantiles of Beta(0.6,0.6) over sigma, as diffusers and AUTOMATIC1111", beta},
    {"beta_timesteps",
     {},
     "quantiles of Beta(0.6,0.6) over the timesteps, as ComfyUI's beta",
     beta_timesteps},
    {"kl_optimal", kKlNames, "even steps in arctan sigma", over_range<kl_optimal_sigmas>},
    {"align_your_steps", kAysNames, "optimised for Stable Diffusion 1", align_your_steps},
    {"align_your_steps_sdxl", {}, "optimised for SDXL", align_your_steps_sdxl},
    {"gits", {}, "from the regularity of trajectories, Stable Diffusion 1, coefficient 1.2", gits},
    {"linear_quadratic", {}, "slow linear start, then quadratic; for flow models", linear_quadratic},
};

}  // namespace

Sigmas karras_sigmas(int steps, double sigma_min, double sigma_max, double rho) {
  const double low = std::pow(sigma_min, 1 / rho), high = std::pow(sigma_max, 1 / rho);
  return over_unit_interval(steps, [&](double u) { return std::pow(high + u * (low - high), rho); });
}

Sigmas exponential_sigmas(int steps, double sigma_min, double sigma_max) {
  return polyexponential_sigmas(steps, sigma_min, sigma_max, 1);
}

Sigmas polyexponential_sigmas(int steps, double sigma_min, double sigma_max, double rho) {
  const double low = std::log(sigma_min), high = std::log(sigma_max);
  return over_unit_interval(steps,
                            [&](double u) { return std::exp(low + std::pow(1 - u, rho) * (high - low)); });
}

Sigmas kl_optimal_sigmas(int steps, double sigma_min, double sigma_max) {
  const double low = std::atan(sigma_min), high = std::atan(sigma_max);
  return over_unit_interval(steps, [&](double u) { return std::tan(u * low + (1 - u) * high); });
}

Sigmas beta_sigmas(int steps, double sigma_min, double sigma_max, double alpha, double beta) {
  return over_unit_interval(steps, [&](double u) {
    return sigma_min + beta_quantile(1 - u, alpha, beta) * (sigma_max - sigma_min);
  });
}

std::span<const SigmaScheduleInfo> sigma_schedules() { return kSchedules; }

const SigmaScheduleInfo& find_sigma_schedule(std::string_view name) {
  return find_by_name(sigma_schedules(), name, "sigma schedule");
}

}  // namespace sinopia
