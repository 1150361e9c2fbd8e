#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "sinopia/diffusion/samplers/registry.h"
#include "sinopia/diffusion/scheduler_config.h"

namespace sinopia {

/// How to sample one picture: with what, at which levels, from how much noise.
struct SamplingPlan {
  const SamplerInfo* sampler = nullptr;
  Sigmas sigmas;  ///< [K+1]
  /// [K], what the model is told at sigmas[i]: diffusers' own numbers, which are not always those of the
  /// level.
  std::vector<double> timesteps;
  double noise_scale = 1;     ///< the latent at sigmas[0] is standard noise times this
  std::optional<int> order;   ///< for SamplerContext
  std::optional<double> eta;  ///< for SamplerContext

  /// What the model is told at a level: timesteps[i] at sigmas[i], the schedule's timestep elsewhere.
  double timestep(const NoiseSchedule& schedule, double sigma) const;
};

/// A sampler on a sigma schedule by name ("" for the sampler's own), as AUTOMATIC1111 combines them. The
/// noise scale is sigmas[0]. Throws InvalidArgument for an unknown name, steps outside [1,10000] or a sampler
/// that cannot do flows for one.
SamplingPlan plan_sampling(std::string_view sampler, std::string_view schedule_name,
                           const NoiseSchedule& schedule, int steps);

/// What diffusers' scheduler class of the config would do in as many steps: PNDM, DDIM, DDPM, EulerDiscrete,
/// EulerAncestralDiscrete, HeunDiscrete, LMSDiscrete, KDPM2Discrete, KDPM2AncestralDiscrete,
/// DPMSolverMultistep, DPMSolverSDE, UniPCMultistep, DEISMultistep, SASolver, LCM, TCD,
/// FlowMatchEulerDiscrete. `schedule` is that of config.schedule. DDIM and PNDM with a spacing other than
/// leading visit the same timesteps but step exactly between them, where diffusers steps by T / steps. Throws
/// Unsupported for another class or solver, InvalidArgument for steps outside [1,train_steps].
SamplingPlan plan_for_scheduler(const SchedulerConfig& config, const NoiseSchedule& schedule, int steps);

/// Image-to-image: the first of `steps` steps to be done at this strength in [0,1], steps - int(steps *
/// strength), as diffusers counts. Equal to steps when nothing is to be done.
int first_step(int steps, double strength);

/// The plan without its first steps; noise_scale becomes that of adding noise to a latent. Throws
/// InvalidArgument unless 0 <= first < number of steps.
SamplingPlan skip_steps(const SamplingPlan& plan, int first);

}  // namespace sinopia
