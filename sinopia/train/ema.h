#pragma once

#include "sinopia/io/tensor_map.h"

namespace sinopia {

/// How much of the average an update keeps: 1 - (1 + step / inverse_gamma)^-power, or with no warm-up
/// (1 + step) / (10 + step), between `least` and `decay`. As diffusers' EMAModel.
struct EmaSchedule {
  double decay = 0.9999;
  double least = 0;
  bool warm_up = false;
  double inverse_gamma = 1, power = 2.0 / 3;
  int64_t from_step = 0;  ///< before it the average is the parameters themselves

  /// Of the update after optimizer step `step`, from 1 on.
  double kept(int64_t step) const;
};

/// An exponential moving average of parameters, which share its order and shapes.
class Ema {
 public:
  /// Starts from the parameters as they are.
  Ema(const TensorMap& parameters, const EmaSchedule& schedule);
  /// After each optimizer step.
  void update();
  /// The average, by the parameters' names; shared.
  const TensorMap& average() const { return average_; }
  /// Exchanges the parameters' elements with the average's: for a validation, and back.
  void swap();
  int64_t steps() const { return steps_; }
  /// Goes on from a saved average after `steps` updates. Throws Corrupt if a name or a shape differs.
  void restore(const TensorMap& average, int64_t steps);

 private:
  TensorMap parameters_, average_;
  EmaSchedule schedule_;
  int64_t steps_ = 0;
};

}  // namespace sinopia
