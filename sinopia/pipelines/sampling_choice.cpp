#include "sinopia/pipelines/sampling_choice.h"

namespace sinopia {
namespace {

struct SamplerClass {
  std::string_view sampler;
  const char* class_name;
  const char* algorithm_type = "";
  const char* solver_type = "";
};

constexpr SamplerClass kClasses[] = {
    {"euler", "EulerDiscreteScheduler"},
    {"euler_a", "EulerAncestralDiscreteScheduler"},
    {"heun", "HeunDiscreteScheduler"},
    {"dpm2", "KDPM2DiscreteScheduler"},
    {"dpm2_a", "KDPM2AncestralDiscreteScheduler"},
    {"lms", "LMSDiscreteScheduler"},
    {"dpm++2m", "DPMSolverMultistepScheduler", "dpmsolver++", "midpoint"},
    {"dpm++2m_sde", "DPMSolverMultistepScheduler", "sde-dpmsolver++", "midpoint"},
    {"dpm++2m_sde_heun", "DPMSolverMultistepScheduler", "sde-dpmsolver++", "heun"},
    {"dpm++sde", "DPMSolverSDEScheduler"},
    {"ddim", "DDIMScheduler"},
    {"ddpm", "DDPMScheduler"},
    {"pndm", "PNDMScheduler"},
    {"unipc", "UniPCMultistepScheduler", "", "bh2"},
    {"unipc_bh1", "UniPCMultistepScheduler", "", "bh1"},
    {"deis", "DEISMultistepScheduler"},
    {"lcm", "LCMScheduler"},
    {"tcd", "TCDScheduler"},
    {"sa_solver", "SASolverScheduler"},
};

}  // namespace

SchedulerConfig scheduler_config(const ScheduleInfo& info) {
  SchedulerConfig config;
  config.class_name = info.scheduler;
  config.schedule.beta_schedule = parse_beta_schedule(info.beta_schedule);
  config.schedule.beta_start = info.beta_start;
  config.schedule.beta_end = info.beta_end;
  config.schedule.train_steps = static_cast<int>(info.train_timesteps);
  config.schedule.rescale_zero_snr = info.zero_terminal_snr;
  config.schedule.prediction = parse_prediction(info.prediction);
  config.schedule.flow_shift = info.flow_shift;
  config.timestep_spacing = parse_timestep_spacing(info.timestep_spacing);
  config.steps_offset = static_cast<int>(info.steps_offset);
  config.set_alpha_to_one = false;
  return config;
}

SamplingPlan choose_plan(std::string_view sampler, std::string_view scheduler, const SchedulerConfig& own,
                         const NoiseSchedule& schedule, int steps) {
  if (sampler.empty() && scheduler.empty()) return plan_for_scheduler(own, schedule, steps);
  const std::string_view name =
      sampler.empty() ? plan_for_scheduler(own, schedule, steps).sampler->name : find_sampler(sampler).name;
  if (!scheduler.empty()) return plan_sampling(name, scheduler, schedule, steps);
  for (const SamplerClass& row : kClasses) {
    if (row.sampler != name || schedule.is_flow()) continue;
    if (own.class_name == row.class_name && plan_for_scheduler(own, schedule, steps).sampler->name == name)
      return plan_for_scheduler(own, schedule, steps);
    SchedulerConfig config = own;
    config.class_name = row.class_name;
    config.algorithm_type = row.algorithm_type;
    config.solver_type = row.solver_type;
    config.solver_order = 2;
    return plan_for_scheduler(config, schedule, steps);
  }
  return plan_sampling(name, scheduler, schedule, steps);
}

}  // namespace sinopia
