#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace sinopia {

/// Noise levels from the noisiest to the cleanest, [steps+1]; the last is where sampling ends, usually 0.
using Sigmas = std::vector<double>;

/// How the variances beta_t of training run over the timesteps, by diffusers' names.
enum class BetaSchedule {
  Linear,           ///< "linear"
  ScaledLinear,     ///< "scaled_linear": linear in sqrt(beta); CompVis calls this one "linear"
  SquaredCosCapV2,  ///< "squaredcos_cap_v2": Nichol and Dhariwal 2021, equation 17, beta <= 0.999
  Trained,          ///< given one by one
};

/// What the network answers.
enum class Prediction {
  Epsilon,  ///< the noise
  V,        ///< sqrt(abar) eps - sqrt(1-abar) x0, Salimans and Ho 2022
  Sample,   ///< x0
  Flow,     ///< eps - x0 along x_t = (1-sigma) x0 + sigma eps, Lipman et al. 2023
};

/// Which timesteps a diffusers scheduler visits, Lin et al. 2023, table 2.
enum class TimestepSpacing { Leading, Trailing, Linspace };

/// The noise of training. The defaults are those of Stable Diffusion 1.
struct ScheduleConfig {
  BetaSchedule beta_schedule = BetaSchedule::ScaledLinear;
  double beta_start = 0.00085;
  double beta_end = 0.012;
  int train_steps = 1000;
  std::vector<double> trained_betas;  ///< for BetaSchedule::Trained, [train_steps]
  /// Lin et al. 2023, algorithm 1: sqrt(abar) is shifted so that it ends at 0 and scaled so that it begins
  /// where it did. The last abar is then set to 2^-24, as diffusers does where it divides by it: sigma_max =
  /// 4096.
  bool rescale_zero_snr = false;
  Prediction prediction = Prediction::Epsilon;
  double flow_shift = 3.0;  ///< for Prediction::Flow, section 5.3.2 of the SD3 paper
};

/// The noise levels that a model was trained on, and the timesteps by which it knows them. Diffusion models
/// count in sigma = sqrt((1-abar)/abar), the noise of x / sqrt(abar); flow models in the sigma of x_t =
/// (1-sigma) x0 + sigma eps, whose timestep is train_steps * sigma.
class NoiseSchedule {
 public:
  /// Throws InvalidArgument for fewer than 2 steps, betas outside [0,1), a wrong number of trained betas, or
  /// a flow shift that is not positive.
  explicit NoiseSchedule(const ScheduleConfig& config);

  const ScheduleConfig& config() const { return config_; }
  bool is_flow() const { return config_.prediction == Prediction::Flow; }
  int train_steps() const { return static_cast<int>(sigmas_.size()); }
  /// The cumulative products of 1 - beta in float32, as torch.cumprod gives them; empty for a flow.
  std::span<const float> alphas_cumprod() const { return alphas_cumprod_; }
  /// sigma of every timestep, ascending.
  std::span<const double> sigmas() const { return sigmas_; }
  double sigma_min() const { return sigmas_.front(); }
  double sigma_max() const { return sigmas_.back(); }

  /// sigma at a timestep in [0,train_steps-1], outside of which it is held; between two timesteps log(sigma)
  /// is linear (k-diffusion, external.py). For a flow t / train_steps is shifted, as ComfyUI does.
  double sigma(double timestep) const;
  /// The timestep that the model is told at a sigma, held at the ends; exactly t for sigmas()[t].
  double timestep(double sigma) const;

 private:
  ScheduleConfig config_;
  std::vector<float> alphas_cumprod_;
  std::vector<double> sigmas_;
};

/// s' = a s / (1 + (a-1) s), the shift of flow models towards noise for a > 1.
double shift_flow(double sigma, double shift);

/// diffusers' names; throw InvalidArgument naming the known ones. "epsilon", "v_prediction", "sample",
/// "flow_prediction"; "leading", "trailing", "linspace"; "linear", "scaled_linear", "squaredcos_cap_v2".
Prediction parse_prediction(std::string_view name);
TimestepSpacing parse_timestep_spacing(std::string_view name);
BetaSchedule parse_beta_schedule(std::string_view name);

}  // namespace sinopia
