#pragma once

#include <cstdint>

namespace sinopia {

/// How the learning rate goes on after the warm-up.
enum class RateShape {
  Constant,
  Linear,       ///< down to the last share at the end of the run
  Cosine,       ///< the same along half a cosine
  Restarts,     ///< `cycles` half cosines, each from the full rate (Loshchilov and Hutter 2017)
  InverseSqrt,  ///< peak * sqrt(warm-up / step), for runs without an end
};

struct LearningRate {
  double peak = 1e-4;
  RateShape shape = RateShape::Constant;
  int64_t warmup_steps = 0;  ///< rises linearly from 0 before
  double last_share = 0;     ///< of the peak, in [0,1]: where Linear, Cosine and Restarts end
  int64_t cycles = 1;        ///< of Restarts
};

/// The rate of optimizer step `step`, from 0, of a run of `steps`. Reference: diffusers optimization.py.
/// Throws InvalidArgument for a step below 0, fields out of range, or InverseSqrt without a warm-up.
double learning_rate(const LearningRate& rate, int64_t step, int64_t steps);

/// A rate that learning_rate() gave, for a network whose own peak is another one; 0 for the same.
double rate_with_peak(const LearningRate& rate, double given, double own_peak);

}  // namespace sinopia
