#include "sinopia/backend/kernels.h"
#include "sinopia/train/optimizers/optimizer.h"

namespace sinopia {
namespace {

class Lion final : public Optimizer {
 public:
  Lion(const TensorMap& parameters, const OptimizerOptions& options)
      : Optimizer(parameters, options, {"momentum"}) {
    allocate();
  }

 private:
  void update(const Tensor& gradient, double learning_rate, float gradient_scale, Tensor& parameter,
              std::vector<Tensor>& state) override {
    const LionStep step{learning_rate, options_.beta1, options_.beta2, options_.weight_decay, gradient_scale};
    kernels(parameter.device()).lion(step, gradient, parameter, state[0]);
  }
};

}  // namespace

std::unique_ptr<Optimizer> make_lion(const TensorMap& parameters, const OptimizerOptions& options) {
  return std::make_unique<Lion>(parameters, options);
}

}  // namespace sinopia
