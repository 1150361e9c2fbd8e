#pragma once

#include <span>
#include <string_view>

#include "sinopia/diffusion/schedule.h"

namespace sinopia {

/// Noise levels of `steps` steps for a model's schedule, descending; all but those that say so end at 0.
struct SigmaScheduleInfo {
  std::string_view name;
  std::span<const std::string_view> aliases;  ///< the names that other tools use
  std::string_view description;
  Sigmas (*sigmas)(const NoiseSchedule& schedule, int steps);
};

/// All of them, in the order in which to list them.
std::span<const SigmaScheduleInfo> sigma_schedules();

/// By name or alias, whatever the case. Throws InvalidArgument naming the known ones.
const SigmaScheduleInfo& find_sigma_schedule(std::string_view name);

// The ones that depend on a range alone, as k-diffusion and ComfyUI define them: `steps` levels from
// sigma_max to sigma_min, then 0.
Sigmas karras_sigmas(int steps, double sigma_min, double sigma_max,
                     double rho = 7);  ///< Karras et al. 2022, eq. 5
Sigmas exponential_sigmas(int steps, double sigma_min, double sigma_max);
Sigmas polyexponential_sigmas(int steps, double sigma_min, double sigma_max, double rho = 1);
/// "Align Your Steps", theorem 3.1: even steps in arctan(sigma).
Sigmas kl_optimal_sigmas(int steps, double sigma_min, double sigma_max);
/// Lee et al. 2024, "Beta Sampling is All You Need", over sigma as in diffusers and AUTOMATIC1111.
Sigmas beta_sigmas(int steps, double sigma_min, double sigma_max, double alpha = 0.6, double beta = 0.6);

}  // namespace sinopia
