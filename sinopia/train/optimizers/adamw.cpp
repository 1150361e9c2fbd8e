#include "sinopia/train/optimizers/optimizer.h"

namespace sinopia {
namespace {

class Adamw final : public UpdateRule {
 public:
  Adamw(const AdamwConstants& constants, double weight_decay)
      : constants_(constants), weight_decay_(weight_decay) {}

  double weight_decay() const override { return weight_decay_; }
  std::vector<std::pair<std::string, Shape>> state_of(std::string_view, const Shape& shape) const override {
    return {{"exp_avg", shape}, {"exp_avg_sq", shape}};
  }
  void update(const OptimizerStep& step, const Tensor& gradient, Tensor& w, std::span<Tensor> state,
              Tensor& stored) const override {
    kernels(w.device()).adamw(step, constants_, gradient, w, state[0], state[1], stored);
  }

 private:
  AdamwConstants constants_;
  double weight_decay_;
};

}  // namespace

AdamwConstants adamw_constants(const OptimizerOptions& options, const char* name, double weight_decay) {
  const AdamwConstants c{options.beta1.value_or(0.9), options.beta2.value_or(0.999),
                         options.eps.value_or(1e-8)};
  SINOPIA_CHECK(c.beta1 >= 0 && c.beta1 < 1 && c.beta2 >= 0 && c.beta2 < 1 && c.eps >= 0 && weight_decay >= 0,
                InvalidArgument,
                "[{}] expected betas in [0,1), eps and weight decay from 0, got {}, {}, {} and {}", name,
                c.beta1, c.beta2, c.eps, weight_decay);
  return c;
}

std::unique_ptr<UpdateRule> make_adamw(const OptimizerOptions& options) {
  const double weight_decay = options.weight_decay.value_or(0.01);
  return std::make_unique<Adamw>(adamw_constants(options, "adamw", weight_decay), weight_decay);
}

}  // namespace sinopia
