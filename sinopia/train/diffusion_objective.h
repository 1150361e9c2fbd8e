#pragma once

#include <span>

#include "sinopia/diffusion/schedule.h"
#include "sinopia/tensor/tensor.h"
#include "sinopia/train/loss_weighting.h"

namespace sinopia {

enum class LossKind {
  Mse,
  L1,
  Huber,  ///< half the square up to delta, a straight line from there; torch.nn.functional.huber_loss
};

/// Pictures with noise, and what a network is asked to answer.
struct NoisedBatch {
  Tensor x;         ///< [N,..] as the network sees it
  Tensor target;    ///< [N,..] in the schedule's prediction
  Tensor timestep;  ///< f32 [N]
  Tensor weight;    ///< f32 [N]: what each one's loss counts
};

/// What a denoiser is trained on: Ho et al. 2020; flows, Lipman et al. 2023 and the SD3 paper.
class DiffusionObjective {
 public:
  struct Config {
    ScheduleConfig schedule = {};  ///< its prediction is the target
    LossKind loss = LossKind::Mse;
    double huber_delta = 0.1;
    LossWeightingConfig weighting = {};
  };
  /// Throws InvalidArgument for fields out of range.
  explicit DiffusionObjective(const Config& config);

  /// x0 and noise [N,..]; levels [N] in (0,1): the timestep floor(level * train_steps) of a diffusion, the
  /// sigma of a flow, which no shift of the schedule is applied to. Throws InvalidArgument for a level out of
  /// range.
  NoisedBatch noised(const Tensor& x0, const Tensor& noise, std::span<const double> levels) const;
  /// The mean loss of each sample's elements, [N], without its weight.
  Tensor losses(const Tensor& output, const NoisedBatch& batch) const;
  /// What is minimised: the mean over the batch of the weighted losses.
  Tensor loss(const Tensor& output, const NoisedBatch& batch) const;

  const NoiseSchedule& schedule() const { return schedule_; }

 private:
  Config config_;
  NoiseSchedule schedule_;
};

/// noise + strength * a normal number for each sample and channel, so that a network learns to change a
/// picture's mean; channel_noise [N,1,..,C].
Tensor with_offset_noise(const Tensor& noise, const Tensor& channel_noise, double strength);

}  // namespace sinopia
