#pragma once

#include <cstdint>

#include "sinopia/io/tensor_map.h"

namespace sinopia {

/// Fields and their defaults are those of diffusers.training_utils.EMAModel.
struct EmaOptions {
  double decay = 0.9999;  ///< the most, in [0,1]
  double min_decay = 0;   ///< the least, in [0,decay], once averaging began
  int64_t update_after_step = 0;
  bool warmup = false;  ///< 1 - (1 + t/inv_gamma)^-power instead of (1+t) / (10+t)
  double inv_gamma = 1, power = 2.0 / 3;
};

/// An exponential moving average of parameters, in f32.
class Ema {
 public:
  /// Starts as a copy. Throws InvalidArgument for options out of range and for parameters that are not f32,
  /// f16 or bf16.
  explicit Ema(const TensorMap& parameters, const EmaOptions& options = {});

  /// After every optimizer step: average = decay * average + (1 - decay) * parameters.
  void update(const TensorMap& parameters);
  /// The decay of update `step`, from 1; 0, a plain copy, before averaging begins.
  double decay_at(int64_t step) const;

  /// Exchanges the parameters' values with the averages, in place and without a second copy of f32: once
  /// before a validation, once after it, which gives back the bits of before. Halves are kept beside
  /// meanwhile.
  void swap(TensorMap& parameters);
  bool swapped() const { return swapped_; }

  // These throw InvalidArgument while swapped, as update() does.
  const TensorMap& averages() const;
  /// The averages and "step", sharing elements.
  TensorMap state() const;
  /// Throws Corrupt, with nothing changed, unless names, shapes and dtypes are those of state().
  void restore(const TensorMap& state);
  size_t state_bytes() const;  ///< also while swapped

 private:
  void check_same(const TensorMap& parameters) const;
  void check_not_swapped() const;

  EmaOptions options_;
  TensorMap averages_, kept_;
  int64_t steps_ = 0;
  bool swapped_ = false;
};

}  // namespace sinopia
