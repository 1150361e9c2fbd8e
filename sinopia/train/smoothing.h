#pragma once

#include <cmath>

#include "sinopia/base/error.h"

namespace sinopia {

/// An exponential mean without the pull towards its start, as TensorBoard smooths: value k of n counts
/// smoothing^(n-k). Numbers that are not finite are left out.
class Smoothed {
 public:
  /// In [0,1): 0 keeps the last value. Throws InvalidArgument otherwise.
  explicit Smoothed(double smoothing) : smoothing_(smoothing) {
    SINOPIA_CHECK(smoothing >= 0 && smoothing < 1, InvalidArgument, "[smoothing] expected [0,1), got {}",
                  smoothing);
  }
  void add(double value) {
    if (!std::isfinite(value)) return;
    sum_ = smoothing_ * sum_ + value;
    weight_ = smoothing_ * weight_ + 1;
  }
  /// NaN before the first number.
  double value() const { return weight_ > 0 ? sum_ / weight_ : std::nan(""); }

 private:
  double smoothing_, sum_ = 0, weight_ = 0;
};

}  // namespace sinopia
