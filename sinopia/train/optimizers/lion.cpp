#include "sinopia/train/optimizers/optimizer.h"

namespace sinopia {
namespace {

class Lion final : public UpdateRule {
 public:
  Lion(const LionConstants& constants, double weight_decay)
      : constants_(constants), weight_decay_(weight_decay) {}

  double weight_decay() const override { return weight_decay_; }
  std::vector<std::pair<std::string, Shape>> state_of(std::string_view, const Shape& shape) const override {
    return {{"exp_avg", shape}};
  }
  void update(const OptimizerStep& step, const Tensor& gradient, Tensor& w, std::span<Tensor> state,
              Tensor& stored) const override {
    kernels(w.device()).lion(step, constants_, gradient, w, state[0], stored);
  }

 private:
  LionConstants constants_;
  double weight_decay_;
};

}  // namespace

std::unique_ptr<UpdateRule> make_lion(const OptimizerOptions& options) {
  const LionConstants c{options.beta1.value_or(0.9), options.beta2.value_or(0.99)};
  const double weight_decay = options.weight_decay.value_or(0);
  SINOPIA_CHECK(
      c.beta1 >= 0 && c.beta1 < 1 && c.beta2 >= 0 && c.beta2 < 1 && weight_decay >= 0 && !options.eps,
      InvalidArgument, "[lion] expected betas in [0,1), weight decay from 0 and no eps, got {}, {}, {} {}",
      c.beta1, c.beta2, weight_decay, options.eps ? "and an eps" : "");
  return std::make_unique<Lion>(c, weight_decay);
}

}  // namespace sinopia
