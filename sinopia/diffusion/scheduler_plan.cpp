#include <algorithm>
#include <cmath>

#include "sinopia/diffusion/plan.h"
#include "sinopia/diffusion/sigma_schedules.h"

namespace sinopia {
namespace {

// The timesteps of a class: as many as there are steps, one more of which the last is dropped, or a distilled
// model's.
enum class Grid { Steps, OneMore, Distilled };
// Where the levels end.
enum class Final { Zero, AlphaToOne, SigmasType, SigmaMin };
// Which levels Karras spacing and its like span, and whether the model is told whole timesteps at them.
enum class Respacing { None, Visited, TableWhole };

struct SchedulerClass {
  std::string_view name;
  std::string_view sampler;
  Grid grid;
  Final final;
  Respacing respacing;
  bool whole_timesteps;  // linspace is rounded
  bool vp_noise;         // starts from standard noise in the model's scale
};

constexpr SchedulerClass kClasses[] = {
    {"PNDMScheduler", "pndm", Grid::Steps, Final::AlphaToOne, Respacing::None, true, true},
    {"DDIMScheduler", "ddim", Grid::Steps, Final::AlphaToOne, Respacing::None, true, true},
    {"DDPMScheduler", "ddpm", Grid::Steps, Final::Zero, Respacing::None, true, true},
    {"EulerDiscreteScheduler", "euler", Grid::Steps, Final::SigmasType, Respacing::Visited, false, false},
    {"EulerAncestralDiscreteScheduler", "euler_a", Grid::Steps, Final::Zero, Respacing::None, false, false},
    {"HeunDiscreteScheduler", "heun", Grid::Steps, Final::Zero, Respacing::Visited, false, false},
    {"LMSDiscreteScheduler", "lms", Grid::Steps, Final::Zero, Respacing::Visited, false, false},
    {"KDPM2DiscreteScheduler", "dpm2", Grid::Steps, Final::Zero, Respacing::Visited, false, false},
    {"KDPM2AncestralDiscreteScheduler", "dpm2_a", Grid::Steps, Final::Zero, Respacing::Visited, false, false},
    {"DPMSolverSDEScheduler", "dpm++sde", Grid::Steps, Final::Zero, Respacing::Visited, false, false},
    {"DPMSolverMultistepScheduler", "dpm++2m", Grid::OneMore, Final::SigmasType, Respacing::TableWhole, true,
     true},
    {"UniPCMultistepScheduler", "unipc", Grid::OneMore, Final::SigmasType, Respacing::TableWhole, true, true},
    {"DEISMultistepScheduler", "deis", Grid::OneMore, Final::SigmaMin, Respacing::TableWhole, true, true},
    {"SASolverScheduler", "sa_solver", Grid::OneMore, Final::SigmaMin, Respacing::TableWhole, true, true},
    {"LCMScheduler", "lcm", Grid::Distilled, Final::Zero, Respacing::None, true, true},
    {"TCDScheduler", "tcd", Grid::Distilled, Final::SigmaMin, Respacing::None, true, true},
    {"FlowMatchEulerDiscreteScheduler", "euler", Grid::Steps, Final::Zero, Respacing::None, false, false},
};

const SchedulerClass& find_class(std::string_view name) {
  std::string known;
  for (const SchedulerClass& row : kClasses) {
    if (row.name == name) return row;
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  fail(ErrorKind::Unsupported, "[plan] unknown scheduler class \"{}\"; known are {}", name, known);
}

// T, T - T/steps, .. rounded, minus 1: numpy.arange with its number of elements, which rounding may raise by
// one.
std::vector<double> trailing(int T, int steps) {
  const double stride = static_cast<double>(T) / steps, delta = (T - stride) - T;
  const int count = static_cast<int>(std::ceil(T / stride));
  std::vector<double> t;
  for (int i = 0; i < count; ++i) t.push_back(std::nearbyint(T + i * delta) - 1);
  return t;
}

std::vector<double> distilled(int T, int original, int steps) {
  SINOPIA_CHECK(original >= steps && original <= T, InvalidArgument,
                "[plan] expected at most {} steps, those of the distillation, got {}", original, steps);
  std::vector<double> t;
  for (int i = 0; i < steps; ++i) {
    const int index = static_cast<int>(std::floor(static_cast<double>(original) / steps * i));
    t.push_back((original - index) * (T / original) - 1);
  }
  return t;
}

std::vector<double> visited_timesteps(const SchedulerClass& row, const SchedulerConfig& config, int T,
                                      int steps) {
  if (row.grid == Grid::Distilled) return distilled(T, config.original_inference_steps, steps);
  if (config.timestep_spacing == TimestepSpacing::Trailing) return trailing(T, steps);
  const int count = steps + (row.grid == Grid::OneMore ? 1 : 0);
  std::vector<double> t;
  for (int i = count - 1; i >= count - steps; --i) {
    if (config.timestep_spacing == TimestepSpacing::Leading) {
      t.push_back(std::min(i * (T / count) + config.steps_offset, T - 1));
    } else {
      const double even = count == 1       ? 0
                          : i == count - 1 ? T - 1
                                           : i * (static_cast<double>(T - 1) / (count - 1));
      t.push_back(row.whole_timesteps ? std::nearbyint(even) : static_cast<double>(static_cast<float>(even)));
    }
  }
  return t;
}

// Between timesteps diffusers interpolates sigma itself, not its logarithm.
double sigma_at(const NoiseSchedule& schedule, double t) {
  const std::span<const double> table = schedule.sigmas();
  const size_t low = static_cast<size_t>(t);
  if (low + 1 >= table.size()) return table.back();
  return table[low] + (t - static_cast<double>(low)) * (table[low + 1] - table[low]);
}

Sigmas respaced(const SchedulerConfig& config, double sigma_min, double sigma_max, int steps) {
  const double low = config.sigma_min.value_or(sigma_min), high = config.sigma_max.value_or(sigma_max);
  Sigmas sigmas;
  switch (config.sigma_spacing) {
    case SigmaSpacing::Karras:
      sigmas = karras_sigmas(steps, low, high);
      break;
    case SigmaSpacing::Exponential:
      sigmas = exponential_sigmas(steps, low, high);
      break;
    default:
      sigmas = beta_sigmas(steps, low, high);
      break;
  }
  sigmas.pop_back();
  return sigmas;
}

// diffusers' set_timesteps for flows: even steps between the largest and the smallest level, shifted once
// more.
SamplingPlan plan_flow(const SchedulerClass& row, const NoiseSchedule& schedule, int steps) {
  SamplingPlan plan;
  plan.sampler = &find_sampler(row.sampler);
  const double first = schedule.sigma_max(), last = schedule.sigma_min();
  for (int i = 0; i < steps; ++i) {
    const double even = steps == 1 ? first : first + (last - first) * i / (steps - 1);
    plan.sigmas.push_back(shift_flow(even, schedule.config().flow_shift));
    plan.timesteps.push_back(plan.sigmas.back() * schedule.train_steps());
  }
  plan.sigmas.push_back(0);
  plan.noise_scale = plan.sigmas[0];
  return plan;
}

// The variants of a class that have a sampler of their own.
std::string_view sampler_of(const SchedulerClass& row, const SchedulerConfig& config) {
  if (row.name == "UniPCMultistepScheduler" && config.solver_type == "bh1") return "unipc_bh1";
  if (row.name != "DPMSolverMultistepScheduler") return row.sampler;
  SINOPIA_CHECK(config.solver_order <= 2, Unsupported, "[plan] DPM-Solver++ of order {} is not supported",
                config.solver_order);
  if (config.algorithm_type == "sde-dpmsolver++") {
    return config.solver_type == "heun" ? "dpm++2m_sde_heun" : "dpm++2m_sde";
  }
  const bool midpoint = config.solver_type != "heun";
  SINOPIA_CHECK((config.algorithm_type.empty() || config.algorithm_type == "dpmsolver++") && midpoint,
                Unsupported, "[plan] the algorithm {} with the solver {} is not supported",
                config.algorithm_type, config.solver_type);
  return config.solver_order == 1 ? "euler" : row.sampler;
}

}  // namespace

SamplingPlan plan_for_scheduler(const SchedulerConfig& config, const NoiseSchedule& schedule, int steps) {
  const SchedulerClass& row = find_class(config.class_name);
  const int T = schedule.train_steps();
  SINOPIA_CHECK(steps >= 1 && steps <= T, InvalidArgument, "[plan] expected 1 to {} steps, got {}", T, steps);
  if (schedule.is_flow()) return plan_flow(row, schedule, steps);

  SamplingPlan plan;
  plan.sampler = &find_sampler(sampler_of(row, config));
  if (row.sampler == "deis" || row.sampler == "unipc") plan.order = config.solver_order;
  plan.timesteps = visited_timesteps(row, config, T, steps);
  // An offset may push the first timestep past the last trained one, onto its neighbour: that step goes
  // nowhere.
  if (plan.timesteps.size() > 1 && plan.timesteps[0] == plan.timesteps[1])
    plan.timesteps.erase(plan.timesteps.begin());
  for (const double t : plan.timesteps) plan.sigmas.push_back(sigma_at(schedule, t));
  const bool respacing = row.respacing != Respacing::None && config.sigma_spacing != SigmaSpacing::Timesteps;
  if (respacing) {
    const bool visited = row.respacing == Respacing::Visited;
    plan.sigmas = respaced(config, visited ? plan.sigmas.back() : schedule.sigma_min(),
                           visited ? plan.sigmas.front() : schedule.sigma_max(), steps);
    const bool whole = row.respacing == Respacing::TableWhole,
               karras = config.sigma_spacing == SigmaSpacing::Karras;
    plan.timesteps.clear();
    for (const double sigma : plan.sigmas) {
      const double t = schedule.timestep(sigma);
      plan.timesteps.push_back(!whole ? t : karras ? std::nearbyint(t) : std::floor(t));
    }
  }
  const bool to_sigma_min = row.final == Final::SigmaMin ||
                            (row.final == Final::SigmasType && config.final_sigma_min) ||
                            (row.final == Final::AlphaToOne && !config.set_alpha_to_one);
  const double last = to_sigma_min ? schedule.sigma_min() : 0;
  // Where the levels end at the smallest anyway, the reference's last step goes nowhere.
  if (last < plan.sigmas.back()) {
    plan.sigmas.push_back(last);
  } else {
    plan.timesteps.pop_back();
  }
  const double highest = plan.sigmas.front();
  const bool standard_scale = row.vp_noise || config.timestep_spacing == TimestepSpacing::Leading;
  plan.noise_scale = standard_scale ? std::sqrt(highest * highest + 1) : highest;
  return plan;
}

}  // namespace sinopia
