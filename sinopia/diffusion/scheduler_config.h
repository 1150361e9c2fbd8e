#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "sinopia/diffusion/schedule.h"

namespace sinopia {

/// A spacing of levels that replaces the timesteps' own ("use_karras_sigmas" and so on).
enum class SigmaSpacing { Timesteps, Karras, Exponential, Beta };

/// What a diffusers folder's scheduler_config.json says. A class that sinopia does not know keeps its name
/// and its noise schedule; plan_for_scheduler() is what refuses it. The defaults are those of diffusers'
/// classes.
struct SchedulerConfig {
  std::string class_name = "DDIMScheduler";
  ScheduleConfig schedule;
  TimestepSpacing timestep_spacing = TimestepSpacing::Leading;
  int steps_offset = 0;
  bool set_alpha_to_one = true;  ///< DDIM and PNDM end at sigma 0 rather than at that of timestep 0
  bool clip_sample = false;      ///< clamp x0 to +-clip_sample_range
  double clip_sample_range = 1;
  SigmaSpacing sigma_spacing = SigmaSpacing::Timesteps;
  std::optional<double> sigma_min, sigma_max;  ///< of Karras, exponential and beta spacing
  bool final_sigma_min = false;                ///< "final_sigmas_type": "sigma_min" rather than "zero"
  std::string algorithm_type;                  ///< of DPM-Solver: "dpmsolver++", "sde-dpmsolver++", ...
  std::string solver_type;                     ///< "midpoint", "heun", "bh1", "bh2", ...
  int solver_order = 2;
  int original_inference_steps = 50;  ///< of LCM and TCD
};

/// Reads the text of scheduler_config.json; null and absent values are the class's defaults. Throws Corrupt
/// for what is not a JSON object or has a value of the wrong type, InvalidArgument for a steps_offset or
/// sigma range that makes no sense and an unknown beta schedule, prediction or spacing, Unsupported for
/// options that change the result and are not built (dynamic shifting of flows, Lu's spacing, dynamic
/// thresholding).
SchedulerConfig parse_scheduler_config(std::string_view json);

}  // namespace sinopia
