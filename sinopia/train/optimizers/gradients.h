#pragma once

#include "sinopia/train/optimizers/optimizer.h"

namespace sinopia {

/// The gradients that backward() brought to leaves, which are cleared; zeros for those that none reached.
TensorMap take_gradients(const TensorMap& leaves);

/// sqrt of the sum of all squares, in double, the same bits for any number of threads; not finite exactly if
/// one of the numbers is not. Gradients are f32.
double gradient_norm(const TensorMap& gradients);

/// Neither NaN nor infinity in any; for a loss, or gradients whose norm is of no use.
bool all_finite(const TensorMap& tensors);

/// The factor that brings a norm down to `max_norm`; 1 if it is below, or if max_norm is 0. As
/// torch.nn.utils.clip_grad_norm_.
double clip_factor(double norm, double max_norm);

/// Sums of gradients over several batches before one step.
class GradientBuffer {
 public:
  /// Adds scale * gradient to each. The first call after clear() decides on names and shapes; throws
  /// InvalidArgument, with nothing added, for others later.
  void add(const TensorMap& gradients, float scale = 1);
  const TensorMap& sums() const { return sums_; }
  /// Calls of add() since clear().
  int64_t count() const { return count_; }
  /// Forgets the sums; keeps their memory.
  void clear() { count_ = 0; }

 private:
  TensorMap sums_;
  int64_t count_ = 0;
};

/// What a loss counts times on its way back through a network that computes in f16, whose small gradients
/// would otherwise be 0 (Micikevicius et al. 2018). Halved after a step whose gradient is not finite, doubled
/// after 2000 others in a row, as torch.amp.GradScaler does.
class LossScale {
 public:
  double value() const { return value_; }
  int64_t steps_at_value() const { return steps_; }
  void step(bool finite);
  /// Goes on from there. Throws Corrupt for a scale that is no finite number above 0.
  void restore(double value, int64_t steps_at_value);

 private:
  double value_ = 65536;
  int64_t steps_ = 0;
};

/// Lets steps through whose gradient has a finite norm, clipped; counts the others, which change nothing.
class StepGuard {
 public:
  /// max_norm 0: no clipping. Throws InvalidArgument below 0.
  explicit StepGuard(double max_norm = 0);

  struct Result {
    double norm;  ///< of the gradients times the scale, before clipping
    bool taken;
  };
  struct Update {
    Optimizer* optimizer;
    const TensorMap* gradients;
    double learning_rate;
  };
  /// Optimizer::step of all of them or of none; they are clipped by the norm of all gradients together.
  Result step(std::span<const Update> updates, double gradient_scale = 1);
  /// The same for one.
  Result step(Optimizer& optimizer, const TensorMap& gradients, double learning_rate,
              double gradient_scale = 1);

  int64_t skipped() const { return skipped_; }
  /// How many of the last steps were skipped one after another: when a run ought to give up.
  int64_t skipped_in_a_row() const { return in_a_row_; }
  /// Goes on counting. Throws Corrupt unless 0 <= in_a_row <= skipped.
  void restore(int64_t skipped, int64_t in_a_row);

  /// From now on steps decide a loss scale. Gradients come to step() without it.
  void scale_losses() { scale_.emplace(); }
  /// 1 unless losses are scaled.
  double loss_scale() const { return scale_ ? scale_->value() : 1; }
  /// Null unless losses are scaled.
  LossScale* scale() { return scale_ ? &*scale_ : nullptr; }

 private:
  double max_norm_;
  int64_t skipped_ = 0, in_a_row_ = 0;
  std::optional<LossScale> scale_;
};

}  // namespace sinopia
