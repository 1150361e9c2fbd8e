#include "sinopia/diffusion/scheduler_config.h"

#include <cmath>
#include <type_traits>

#include <nlohmann/json.hpp>

#include "sinopia/base/error.h"
#include "sinopia/io/python_json.h"

namespace sinopia {
namespace {

// A value that may be absent or null.
template <class T>
std::optional<T> find(const nlohmann::json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return std::nullopt;
  if constexpr (std::is_same_v<T, int>) {
    const double number = found->get<double>();
    SINOPIA_CHECK(number == std::floor(number) && std::abs(number) <= 1e9, Corrupt,
                  "[scheduler_config] expected a whole number for {}, got {}", key, number);
    return static_cast<int>(number);
  } else {
    return found->get<T>();
  }
}

// Where the classes' own defaults differ from diffusers' most common ones.
void apply_class_defaults(SchedulerConfig& config) {
  const std::string& name = config.class_name;
  const auto is_one_of = [&](std::initializer_list<std::string_view> names) {
    for (const std::string_view known : names) {
      if (name == known) return true;
    }
    return false;
  };
  const bool consistency = is_one_of({"LCMScheduler", "TCDScheduler"});
  const bool latent = is_one_of({"HeunDiscreteScheduler", "KDPM2DiscreteScheduler",
                                 "KDPM2AncestralDiscreteScheduler", "DPMSolverSDEScheduler"});
  config.schedule.beta_schedule = consistency ? BetaSchedule::ScaledLinear : BetaSchedule::Linear;
  config.schedule.beta_start = consistency || latent ? 0.00085 : 0.0001;
  config.schedule.beta_end = consistency || latent ? 0.012 : 0.02;
  const bool leading = consistency || is_one_of({"PNDMScheduler", "DDIMScheduler", "DDPMScheduler"});
  config.timestep_spacing = leading ? TimestepSpacing::Leading : TimestepSpacing::Linspace;
  config.set_alpha_to_one = name != "PNDMScheduler";
  config.clip_sample = is_one_of({"DDIMScheduler", "DDPMScheduler"});
  if (name == "FlowMatchEulerDiscreteScheduler") {
    config.schedule.prediction = Prediction::Flow;
    config.schedule.flow_shift = 1;
  }
}

SchedulerConfig parse(const nlohmann::json& json) {
  SchedulerConfig config;
  const auto set = [&](auto& field, const char* key) {
    if (auto value = find<std::remove_reference_t<decltype(field)>>(json, key)) field = *value;
  };
  const auto refuse = [&](const char* key) {
    SINOPIA_CHECK(!find<bool>(json, key).value_or(false), Unsupported,
                  "[scheduler_config] {} is not supported", key);
  };
  set(config.class_name, "_class_name");
  apply_class_defaults(config);
  ScheduleConfig& schedule = config.schedule;
  set(schedule.train_steps, "num_train_timesteps");
  set(schedule.beta_start, "beta_start");
  set(schedule.beta_end, "beta_end");
  if (auto name = find<std::string>(json, "beta_schedule"))
    schedule.beta_schedule = parse_beta_schedule(*name);
  if (auto betas = find<std::vector<double>>(json, "trained_betas")) {
    schedule.trained_betas = std::move(*betas);
    schedule.beta_schedule = BetaSchedule::Trained;
  }
  set(schedule.rescale_zero_snr, "rescale_betas_zero_snr");
  if (auto name = find<std::string>(json, "prediction_type")) schedule.prediction = parse_prediction(*name);
  set(schedule.flow_shift, "shift");
  if (auto name = find<std::string>(json, "timestep_spacing"))
    config.timestep_spacing = parse_timestep_spacing(*name);
  set(config.steps_offset, "steps_offset");
  SINOPIA_CHECK(config.steps_offset >= 0 && config.steps_offset < schedule.train_steps, InvalidArgument,
                "[scheduler_config] expected a steps_offset in [0,{}), got {}", schedule.train_steps,
                config.steps_offset);
  set(config.set_alpha_to_one, "set_alpha_to_one");
  set(config.clip_sample, "clip_sample");
  set(config.clip_sample_range, "clip_sample_range");
  if (find<bool>(json, "use_karras_sigmas").value_or(false)) config.sigma_spacing = SigmaSpacing::Karras;
  if (find<bool>(json, "use_exponential_sigmas").value_or(false))
    config.sigma_spacing = SigmaSpacing::Exponential;
  if (find<bool>(json, "use_beta_sigmas").value_or(false)) config.sigma_spacing = SigmaSpacing::Beta;
  config.sigma_min = find<double>(json, "sigma_min");
  config.sigma_max = find<double>(json, "sigma_max");
  const double low = config.sigma_min.value_or(0.01), high = config.sigma_max.value_or(1e4);
  SINOPIA_CHECK(low > 0 && low < high && high <= 1e6, InvalidArgument,
                "[scheduler_config] expected 0 < sigma_min < sigma_max <= 1e6, got {} and {}", low, high);
  config.final_sigma_min = find<std::string>(json, "final_sigmas_type").value_or("zero") == "sigma_min";
  set(config.algorithm_type, "algorithm_type");
  set(config.solver_type, "solver_type");
  set(config.solver_order, "solver_order");
  set(config.original_inference_steps, "original_inference_steps");
  for (const char* key : {"use_dynamic_shifting", "use_lu_lambdas", "thresholding", "use_flow_sigmas"})
    refuse(key);
  // EulerDiscreteScheduler's ways to find a sigma and to name it.
  const auto only = [&](const char* key, std::string_view known) {
    const std::string given = find<std::string>(json, key).value_or(std::string(known));
    SINOPIA_CHECK(given == known, Unsupported, "[scheduler_config] {} \"{}\" is not supported, only \"{}\"",
                  key, given, known);
  };
  only("interpolation_type", "linear");
  only("timestep_type", "discrete");
  return config;
}

}  // namespace

SchedulerConfig parse_scheduler_config(std::string_view json) {
  try {
    const nlohmann::json object = nlohmann::json::parse(without_python_numbers(json));
    SINOPIA_CHECK(object.is_object(), Corrupt, "[scheduler_config] expected a JSON object");
    return parse(object);
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorKind::Corrupt, "[scheduler_config] {}", error.what());
  }
}

}  // namespace sinopia
