#include "sinopia/train/optimizers/gradients.h"

#include <algorithm>
#include <cmath>

#include "sinopia/autograd/tape.h"
#include "sinopia/ops/shape.h"

namespace sinopia {

TensorMap take_gradients(const TensorMap& leaves) {
  TensorMap result;
  for (const auto& [name, leaf] : leaves) {
    const Tensor gradient = gradient_of(leaf);
    result[name] = gradient ? gradient : zeros(leaf.shape(), leaf.device());
    clear_gradient(leaf);
  }
  return result;
}

double gradient_norm(const TensorMap& gradients) {
  double sum = 0;
  for (const auto& [name, gradient] : gradients) sum += kernels(gradient.device()).sum_of_squares(gradient);
  return std::sqrt(sum);
}

bool all_finite(const TensorMap& tensors) {
  return std::all_of(tensors.begin(), tensors.end(), [](const auto& entry) {
    return kernels(entry.second.device()).all_finite(entry.second);
  });
}

double clip_factor(double norm, double max_norm) {
  constexpr double kNoDivisionByZero = 1e-6;  // torch's
  return max_norm > 0 ? std::min(1.0, max_norm / (norm + kNoDivisionByZero)) : 1;
}

void GradientBuffer::add(const TensorMap& gradients, float scale) {
  const auto fits = [](const auto& a, const auto& b) {
    return a.first == b.first && a.second.shape() == b.second.shape() &&
           a.second.device() == b.second.device();
  };
  for (const auto& [name, gradient] : gradients) {
    SINOPIA_CHECK(gradient && gradient.dtype() == DType::F32, InvalidArgument,
                  "[gradients] expected {} in f32, got {}", name, describe(gradient));
  }
  const bool same = std::equal(sums_.begin(), sums_.end(), gradients.begin(), gradients.end(), fits);
  SINOPIA_CHECK(same || count_ == 0, InvalidArgument,
                "[gradients] expected the {} names and shapes of the first batch, got {} that are not",
                sums_.size(), gradients.size());
  if (!same) {
    sums_.clear();
    for (const auto& [name, gradient] : gradients) sums_[name] = empty_like(gradient);
  }
  for (const auto& [name, gradient] : gradients) {
    Tensor& sum = sums_.find(name)->second;
    Kernels& device = kernels(gradient.device());
    if (count_ == 0) device.fill(sum, 0);
    device.add_scaled(gradient, scale, sum);
  }
  ++count_;
}

void LossScale::step(bool finite) {
  constexpr int64_t kSteps = 2000;
  constexpr double kSmallest = 0x1p-14, kLargest = 0x1p24;  // beyond which it is not the scale's fault
  if (!finite) {
    value_ = std::max(value_ / 2, kSmallest);
    steps_ = 0;
  } else if (++steps_ == kSteps) {
    value_ = std::min(value_ * 2, kLargest);
    steps_ = 0;
  }
}

void LossScale::restore(double value, int64_t steps_at_value) {
  SINOPIA_CHECK(std::isfinite(value) && value > 0 && steps_at_value >= 0, Corrupt,
                "[gradients] expected a loss scale above 0, got {} for {} steps", value, steps_at_value);
  value_ = value;
  steps_ = steps_at_value;
}

StepGuard::StepGuard(double max_norm) : max_norm_(max_norm) {
  SINOPIA_CHECK(max_norm >= 0 && std::isfinite(max_norm), InvalidArgument,
                "[gradients] expected a largest norm from 0, got {}", max_norm);
}

StepGuard::Result StepGuard::step(std::span<const Update> updates, double gradient_scale) {
  double squares = 0;
  for (const Update& update : updates) {
    const double norm = gradient_norm(*update.gradients);
    squares += norm * norm;
  }
  const double norm = std::sqrt(squares) * std::abs(gradient_scale);
  if (scale_) scale_->step(std::isfinite(norm));
  if (!std::isfinite(norm)) {
    ++skipped_;
    ++in_a_row_;
    return {norm, false};
  }
  for (const Update& update : updates)
    update.optimizer->step(*update.gradients, update.learning_rate,
                           gradient_scale * clip_factor(norm, max_norm_));
  in_a_row_ = 0;
  return {norm, true};
}

StepGuard::Result StepGuard::step(Optimizer& optimizer, const TensorMap& gradients, double learning_rate,
                                  double gradient_scale) {
  const Update update{&optimizer, &gradients, learning_rate};
  return step({&update, 1}, gradient_scale);
}

void StepGuard::restore(int64_t skipped, int64_t in_a_row) {
  SINOPIA_CHECK(0 <= in_a_row && in_a_row <= skipped, Corrupt,
                "[gradients] expected counts of skipped steps, got {}, {} in a row", skipped, in_a_row);
  skipped_ = skipped;
  in_a_row_ = in_a_row;
}

}  // namespace sinopia
