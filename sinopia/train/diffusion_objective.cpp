#include "sinopia/train/diffusion_objective.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "sinopia/ops/elementwise.h"

namespace sinopia {
namespace {

/// A number for each sample, in a shape that broadcasts over its elements.
Tensor per_sample(const std::vector<float>& values, int rank) {
  std::vector<int64_t> dims(static_cast<size_t>(rank), 1);
  dims[0] = static_cast<int64_t>(values.size());
  return Tensor::from(Shape(dims), values);
}

}  // namespace

DiffusionObjective::DiffusionObjective(const Config& config) : config_(config), schedule_(config.schedule) {
  SINOPIA_CHECK(config.huber_delta > 0, InvalidArgument,
                "[objective] expected a positive huber_delta, got {}", config.huber_delta);
  loss_weight(config.weighting, config.schedule.prediction, 1.0);  // what it refuses, it refuses at once
}

NoisedBatch DiffusionObjective::noised(const Tensor& x0, const Tensor& noise,
                                       std::span<const double> levels) const {
  const int64_t N = x0.dim(0);
  SINOPIA_CHECK(noise.shape() == x0.shape() && static_cast<int64_t>(levels.size()) == N, InvalidArgument,
                "[objective] expected noise {} and {} levels, got {} and {}", to_string(x0.shape()), N,
                to_string(noise.shape()), levels.size());
  const Prediction prediction = schedule_.config().prediction;
  std::vector<float> signal, noisiness, timesteps, weights;
  for (const double level : levels) {
    SINOPIA_CHECK(level > 0 && level < 1, InvalidArgument, "[objective] expected levels in (0,1), got {}",
                  level);
    double sigma = level;
    if (schedule_.is_flow()) {
      signal.push_back(static_cast<float>(1 - level));
      noisiness.push_back(static_cast<float>(level));
      timesteps.push_back(static_cast<float>(level * schedule_.train_steps()));
    } else {
      const int last = schedule_.train_steps() - 1;
      const auto t = static_cast<size_t>(std::min(last, static_cast<int>(level * schedule_.train_steps())));
      const float kept = schedule_.alphas_cumprod()[t];
      signal.push_back(std::sqrt(kept));
      noisiness.push_back(std::sqrt(1 - kept));
      timesteps.push_back(static_cast<float>(t));
      sigma = schedule_.sigmas()[t];
    }
    weights.push_back(static_cast<float>(loss_weight(config_.weighting, prediction, sigma)));
  }
  const Tensor a = per_sample(signal, x0.rank()), s = per_sample(noisiness, x0.rank());
  const auto target = [&]() -> Tensor {
    switch (prediction) {
      case Prediction::V:
        return a * noise - s * x0;
      case Prediction::Sample:
        return x0;
      case Prediction::Flow:
        return noise - x0;
      case Prediction::Epsilon:
        break;
    }
    return noise;
  };
  return {a * x0 + s * noise, target(), per_sample(timesteps, 1), per_sample(weights, 1)};
}

Tensor DiffusionObjective::losses(const Tensor& output, const NoisedBatch& batch) const {
  SINOPIA_CHECK(output.shape() == batch.target.shape(), InvalidArgument,
                "[objective] expected an output {}, got {}", to_string(batch.target.shape()),
                to_string(output.shape()));
  const Tensor error = output - batch.target;
  const auto of_elements = [&] {
    const auto delta = static_cast<float>(config_.huber_delta);
    const Tensor limited = config_.loss == LossKind::Huber ? clamp(error, -delta, delta) : Tensor();
    switch (config_.loss) {
      case LossKind::L1:
        return abs(error);
      case LossKind::Huber:
        return limited * (error - limited * 0.5);
      case LossKind::Mse:
        break;
    }
    return square(error);
  };
  const int64_t N = error.dim(0), each = error.numel() / std::max<int64_t>(1, N);
  return sum_to(of_elements().reshape({N, each}), {N, 1}).reshape({N}) / static_cast<double>(each);
}

Tensor DiffusionObjective::loss(const Tensor& output, const NoisedBatch& batch) const {
  return mean(losses(output, batch) * batch.weight);
}

Tensor with_offset_noise(const Tensor& noise, const Tensor& channel_noise, double strength) {
  return noise + channel_noise * strength;
}

}  // namespace sinopia
