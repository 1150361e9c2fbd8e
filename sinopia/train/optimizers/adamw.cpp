#include <cmath>

#include "sinopia/backend/kernels.h"
#include "sinopia/train/optimizers/optimizer.h"

namespace sinopia {
namespace {

class AdamW final : public Optimizer {
 public:
  AdamW(const TensorMap& parameters, const OptimizerOptions& options)
      : Optimizer(parameters, options, {"mean", "square"}) {
    allocate();
  }

 private:
  void update(const Tensor& gradient, double learning_rate, float gradient_scale, Tensor& parameter,
              std::vector<Tensor>& state) override {
    const double steps = static_cast<double>(steps_);
    const AdamWStep step{.learning_rate = learning_rate,
                         .beta1 = options_.beta1,
                         .beta2 = options_.beta2,
                         .eps = options_.eps,
                         .weight_decay = options_.weight_decay,
                         .correction1 = 1 - std::pow(options_.beta1, steps),
                         .correction2 = 1 - std::pow(options_.beta2, steps),
                         .gradient_scale = gradient_scale};
    kernels(parameter.device()).adamw(step, gradient, parameter, state[0], state[1]);
  }
};

}  // namespace

std::unique_ptr<Optimizer> make_adamw(const TensorMap& parameters, const OptimizerOptions& options) {
  return std::make_unique<AdamW>(parameters, options);
}

}  // namespace sinopia
