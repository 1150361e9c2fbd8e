#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sinopia/backend/kernels.h"
#include "sinopia/io/tensor_map.h"

namespace sinopia {

/// Absent fields are the optimizer's own defaults, which its make_ function names.
struct OptimizerOptions {
  std::optional<double> beta1 = {}, beta2 = {}, eps = {}, weight_decay = {};
  std::optional<double> momentum = {};  ///< Muon's alone
  /// Which parameters decay, by name; empty: all of them, as in diffusers' scripts.
  std::function<bool(std::string_view name)> decays = {};

  // Adafactor's alone
  double clip_threshold = 1;    ///< of the root mean square of an update, > 0
  double decay_rate = -0.8;     ///< in [-1,0): beta2 of step t is 1 - t^decay_rate
  double least_scale = 1e-3;    ///< of scale_parameter, > 0: transformers' eps[1]
  bool scale_parameter = true;  ///< the rate counts times max(least_scale, rms of the parameter)
  bool relative_step = true;    ///< the rate is min(1e-2, 1/sqrt(t)), not the one that step() is given
  bool warmup_init = false;     ///< with relative_step: min(1e-6 t, 1/sqrt(t))
  /// Factors a weight of a convolution [O,I,KH,KW] over O and I*KH*KW, so that its state is small too;
  /// otherwise over KH and KW, as transformers does, whose state is 2/3 of the weight for 3x3.
  bool flatten_convolutions = false;
};

/// For OptimizerOptions::decays: not biases, and not the parameters of norms, by their names in diffusers and
/// transformers.
bool is_bias_or_norm(std::string_view name);

/// How an optimizer changes one parameter; one file each.
class UpdateRule {
 public:
  virtual ~UpdateRule() = default;
  virtual double weight_decay() const = 0;
  /// Names and shapes of the f32 tensors, zero at first, that it keeps for a parameter of this name and
  /// shape.
  virtual std::vector<std::pair<std::string, Shape>> state_of(std::string_view name,
                                                              const Shape& shape) const = 0;
  /// See Kernels::adamw for w and stored. `state` as state_of lists it.
  virtual void update(const OptimizerStep& step, const Tensor& gradient, Tensor& w, std::span<Tensor> state,
                      Tensor& stored) const = 0;
};

/// Changes a model's parameters in place by their gradients. One thread at a time.
class Optimizer {
 public:
  /// Parameters share their elements with the model. Those stored as f16 or bf16 get a master weight in f32,
  /// which is part of the state. Throws InvalidArgument for other dtypes and tensors of a mapped file, which
  /// cannot be written.
  Optimizer(TensorMap parameters, std::unique_ptr<UpdateRule> rule,
            std::function<bool(std::string_view)> decays = {});

  /// One step. `gradients` are f32, one for each parameter, by its name and of its shape; they count times
  /// `gradient_scale`. Throws InvalidArgument, with nothing changed, if they are not, or if a rate or scale
  /// is not finite.
  void step(const TensorMap& gradients, double learning_rate, double gradient_scale = 1);

  /// Steps so far.
  int64_t steps() const { return steps_; }
  /// Everything that the next steps depend on besides the parameters: "step" and tensors named
  /// "PARAMETER.exp_avg" and so on, as torch names them, "PARAMETER.master" among them. They share their
  /// elements with the optimizer, but for "step".
  TensorMap state() const;
  /// Goes on from a state, bit for bit, if the parameters are also those of then. Throws Corrupt, with
  /// nothing changed, unless names, shapes and dtypes are those of state().
  void restore(const TensorMap& state);
  size_t state_bytes() const;

 private:
  struct Slot {
    std::string name;
    Tensor w, stored;
    std::vector<std::string> names;
    std::vector<Tensor> state;
    bool decays = true;
  };

  std::unique_ptr<UpdateRule> rule_;
  std::vector<Slot> slots_;
  int64_t steps_ = 0;
};

/// torch.optim.AdamW: beta1 0.9, beta2 0.999, eps 1e-8 outside the root, decoupled weight decay 0.01.
std::unique_ptr<UpdateRule> make_adamw(const OptimizerOptions& options);
/// Chen et al. 2023, the update of lion-pytorch: beta1 0.9, beta2 0.99, decoupled weight decay 0; no eps.
std::unique_ptr<UpdateRule> make_lion(const OptimizerOptions& options);
/// transformers.optimization.Adafactor: eps 1e-30, weight decay 0, no beta1 unless given; no beta2. Weights
/// of two and more dimensions are factored over the last two of the shape, for a convolution [O,I,KH,KW] over
/// KH and KW, unless flatten_convolutions.
std::unique_ptr<UpdateRule> make_adafactor(const OptimizerOptions& options);

/// Jordan et al. 2024 as torch.optim.Muon with match_rms_adamw: matrices move along their orthogonalised mean
/// gradient, by as much as AdamW would at the same rate; convolutions are matrices [O,I*KH*KW]. momentum 0.95
/// with Nesterov's step, decoupled weight decay 0.1. Vectors, tables, time embeddings and the layers at a
/// network's ends go by AdamW, with its beta1, beta2 and eps. Iterates in f32, where torch does in bf16.
std::unique_ptr<UpdateRule> make_muon(const OptimizerOptions& options);

/// beta1, beta2 and eps of the options or AdamW's own. Throws InvalidArgument, with the optimizer's name,
/// unless they and `weight_decay` are in range.
AdamwConstants adamw_constants(const OptimizerOptions& options, const char* name, double weight_decay);

struct OptimizerInfo {
  const char* name;
  const char* description;
  std::unique_ptr<UpdateRule> (*make)(const OptimizerOptions& options);
};

/// All of them.
std::span<const OptimizerInfo> optimizers();

/// By its name in optimizers(). Throws NotFound for another name, InvalidArgument for options out of range.
Optimizer make_optimizer(std::string_view name, TensorMap parameters, const OptimizerOptions& options = {});

}  // namespace sinopia
