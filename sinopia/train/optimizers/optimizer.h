#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "sinopia/io/tensor_map.h"

namespace sinopia {

struct OptimizerOptions {
  double beta1 = 0.9;    ///< [0,1): of the mean gradient; Adafactor keeps none if it is 0
  double beta2 = 0.999;  ///< [0,1): of its square (AdamW), or of what is kept of the momentum (Lion: 0.99)
  double eps = 1e-8;     ///< AdamW: added to the root of the square
  double weight_decay = 0.01;  ///< what a parameter loses a step, in units of the learning rate
  /// Adafactor: the learning rate is multiplied by the parameter's root mean square, at least 1e-3.
  bool scale_by_parameter = false;
};

/// Changes parameters by their gradients, in place. The parameters are f32, in an order that stays.
class Optimizer {
 public:
  virtual ~Optimizer() = default;

  /// One step by the gradients, in the order of the parameters, times `gradient_scale`. What has no gradient
  /// (an absent tensor) is left alone. Throws InvalidArgument for a gradient of another shape.
  void step(const std::vector<Tensor>& gradients, double learning_rate, float gradient_scale = 1);

  /// What a later run needs to go on: tensors named "mean.<parameter>" and the like, and the steps taken as
  /// "step", i64. They share the optimizer's memory.
  TensorMap state() const;
  /// The other way. Throws Corrupt naming what is missing, left over or of another shape; nothing has changed
  /// then.
  void restore(const TensorMap& state);
  int64_t steps() const { return steps_; }

 protected:
  /// `kinds` name the f32 tensors that are kept for each parameter; each has the parameter's shape unless
  /// shape_of says otherwise.
  Optimizer(const TensorMap& parameters, const OptimizerOptions& options,
            std::vector<std::string_view> kinds);
  /// Allocates the state: zeros. To be called by the constructor of each optimizer.
  void allocate();
  virtual Shape shape_of(std::string_view kind, const Tensor& parameter) const;
  /// Parameter i; `state` holds its tensors in the order of the kinds.
  virtual void update(const Tensor& gradient, double learning_rate, float gradient_scale, Tensor& parameter,
                      std::vector<Tensor>& state) = 0;

  OptimizerOptions options_;
  int64_t steps_ = 0;  ///< this one included, within update()

 private:
  std::vector<std::string> names_;
  std::vector<Tensor> parameters_;
  std::vector<std::string_view> kinds_;
  std::vector<std::vector<Tensor>> state_;
};

/// AdamW, Loshchilov and Hutter 2019; the numbers of torch.optim.AdamW.
std::unique_ptr<Optimizer> make_adamw(const TensorMap& parameters, const OptimizerOptions& options);
/// Lion, Chen et al. 2023, algorithm 2: the sign of a mean of the gradient.
std::unique_ptr<Optimizer> make_lion(const TensorMap& parameters, const OptimizerOptions& options);
/// Adafactor, Shazeer and Stern 2018, with squares kept as rows and columns of the last two axes; the numbers
/// of transformers.optimization.Adafactor with relative_step=False. Matrices that are stored as 1x1
/// convolutions are factored here, but not there.
std::unique_ptr<Optimizer> make_adafactor(const TensorMap& parameters, const OptimizerOptions& options);

struct OptimizerEntry {
  std::string_view name;
  std::unique_ptr<Optimizer> (*make)(const TensorMap& parameters, const OptimizerOptions& options);
  OptimizerOptions defaults;
  std::string_view description;
};

/// All there are, by what a recipe calls them.
const std::vector<OptimizerEntry>& optimizers();
/// Throws NotFound naming the known ones.
const OptimizerEntry& optimizer(std::string_view name);

}  // namespace sinopia
