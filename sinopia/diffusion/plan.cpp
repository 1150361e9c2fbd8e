#include "sinopia/diffusion/plan.h"

#include <algorithm>
#include <cmath>

#include "sinopia/diffusion/sigma_schedules.h"

namespace sinopia {

double SamplingPlan::timestep(const NoiseSchedule& schedule, double sigma) const {
  for (size_t i = 0; i < timesteps.size(); ++i) {
    if (sigmas[i] == sigma) return timesteps[i];
  }
  return schedule.timestep(sigma);
}

SamplingPlan plan_sampling(std::string_view sampler, std::string_view schedule_name,
                           const NoiseSchedule& schedule, int steps) {
  SINOPIA_CHECK(steps >= 1 && steps <= 10000, InvalidArgument, "[plan] expected 1 to 10000 steps, got {}",
                steps);
  SamplingPlan plan;
  plan.sampler = &find_sampler(sampler);
  SINOPIA_CHECK(!schedule.is_flow() || plan.sampler->supports_flow, InvalidArgument,
                "[plan] the sampler {} cannot follow a flow; euler, heun and dpm++2m can",
                plan.sampler->name);
  const auto& levels = find_sigma_schedule(schedule_name.empty() ? plan.sampler->schedule : schedule_name);
  plan.sigmas = levels.sigmas(schedule, steps + (plan.sampler->discards_penultimate ? 1 : 0));
  if (plan.sampler->discards_penultimate && plan.sigmas.size() > 2) plan.sigmas.erase(plan.sigmas.end() - 2);
  for (size_t i = 0; i + 1 < plan.sigmas.size(); ++i)
    plan.timesteps.push_back(schedule.timestep(plan.sigmas[i]));
  plan.noise_scale = plan.sigmas[0];
  return plan;
}

int first_step(int steps, double strength) {
  SINOPIA_CHECK(steps >= 1 && strength >= 0 && strength <= 1, InvalidArgument,
                "[plan] expected steps >= 1 and a strength in [0,1], got {} and {}", steps, strength);
  return steps - std::min(static_cast<int>(steps * strength), steps);
}

SamplingPlan skip_steps(const SamplingPlan& plan, int first) {
  SINOPIA_CHECK(first >= 0 && first < static_cast<int>(plan.timesteps.size()), InvalidArgument,
                "[plan] expected to skip 0 to {} steps, got {}", plan.timesteps.size() - 1, first);
  SamplingPlan rest = plan;
  if (first == 0) return rest;
  rest.sigmas.erase(rest.sigmas.begin(), rest.sigmas.begin() + first);
  rest.timesteps.erase(rest.timesteps.begin(), rest.timesteps.begin() + first);
  rest.noise_scale = rest.sigmas[0];
  return rest;
}

}  // namespace sinopia
