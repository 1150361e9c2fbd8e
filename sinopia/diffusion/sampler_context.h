#pragma once

#include <functional>
#include <limits>
#include <optional>
#include <stop_token>

#include "sinopia/diffusion/noise_source.h"
#include "sinopia/diffusion/schedule.h"
#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// (x [N,H,W,C], sigma) -> the model's estimate of x0. x = x0 + sigma eps, for a flow (1-sigma) x0 + sigma
/// eps.
using Denoiser = std::function<Tensor(const Tensor& x, double sigma)>;

/// What a sampler tells after each step.
struct StepInfo {
  size_t step;       ///< done so far, 1 to steps
  size_t steps;      ///< in all
  double sigma;      ///< the level of x
  const Tensor& x;   ///< the latent
  const Tensor& x0;  ///< the last estimate, for previews
};

/// What a sampler needs besides the denoiser: its noise, its options, whom to tell, when to stop.
struct SamplerContext {
  /// Standard normal noise for the way from one level to the next; required by the samplers that the registry
  /// marks.
  NoiseSource noise;
  /// 0 deterministic, 1 ancestral; unset is the sampler's own default. TCD's gamma.
  std::optional<double> eta;
  double s_noise = 1;  ///< scales all noise
  double s_churn = 0;  ///< Karras et al. 2022, algorithm 2
  double s_min = 0;    ///< churn only between these levels
  double s_max = std::numeric_limits<double>::infinity();
  std::optional<int> order;  ///< of the multistep samplers that have several
  /// The model's timesteps, for the samplers that count in them (tcd, sa_solver).
  const NoiseSchedule* schedule = nullptr;
  std::function<void(const StepInfo&)> on_step;
  std::stop_token stop;

  /// Reports a finished step. Throws Cancelled when a stop was asked for.
  void step_done(size_t index, size_t steps, double sigma, const Tensor& x, const Tensor& x0) const {
    if (on_step) on_step({index + 1, steps, sigma, x, x0});
    SINOPIA_CHECK(!stop.stop_requested(), Cancelled, "[sampler] stopped after step {} of {}", index + 1,
                  steps);
  }
};

}  // namespace sinopia
