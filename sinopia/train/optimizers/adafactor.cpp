#include <algorithm>
#include <cmath>

#include "sinopia/train/optimizers/optimizer.h"

namespace sinopia {
namespace {

class Adafactor final : public UpdateRule {
 public:
  explicit Adafactor(const OptimizerOptions& options)
      : options_(options),
        constants_{.eps = options.eps.value_or(1e-30),
                   .clip_threshold = options.clip_threshold,
                   .decay_rate = options.decay_rate,
                   .beta1 = options.beta1.value_or(0),
                   .least_scale = options.scale_parameter ? options.least_scale : 0} {}

  double weight_decay() const override { return options_.weight_decay.value_or(0); }

  std::vector<std::pair<std::string, Shape>> state_of(std::string_view, const Shape& shape) const override {
    std::vector<std::pair<std::string, Shape>> result;
    if (shape.rank() < 2) {
      result = {{"exp_avg_sq", shape}};
    } else if (options_.flatten_convolutions && shape.rank() == 4) {
      result = {{"exp_avg_sq_row", Shape{shape.dim(0)}},
                {"exp_avg_sq_col", Shape{shape.dim(1) * shape.dim(2) * shape.dim(3)}}};
    } else {
      const std::span<const int64_t> dims = shape.dims();
      std::vector<int64_t> columns(dims.begin(), dims.end());
      columns.erase(columns.end() - 2);
      result = {{"exp_avg_sq_row", Shape(dims.first(dims.size() - 1))}, {"exp_avg_sq_col", Shape(columns)}};
    }
    if (options_.beta1) result.emplace_back("exp_avg", shape);
    return result;
  }

  void update(const OptimizerStep& step, const Tensor& gradient, Tensor& w, std::span<Tensor> state,
              Tensor& stored) const override {
    OptimizerStep own = step;
    if (options_.relative_step) {
      const auto t = static_cast<double>(step.number);
      own.learning_rate = std::min(options_.warmup_init ? 1e-6 * t : 1e-2, 1 / std::sqrt(t));
    }
    Tensor absent;
    Tensor& columns = w.rank() < 2 ? absent : state[1];
    Tensor& mean = options_.beta1 ? state.back() : absent;
    kernels(w.device()).adafactor(own, constants_, gradient, w, state[0], columns, mean, stored);
  }

 private:
  OptimizerOptions options_;
  AdafactorConstants constants_;
};

}  // namespace

std::unique_ptr<UpdateRule> make_adafactor(const OptimizerOptions& options) {
  const double beta1 = options.beta1.value_or(0), eps = options.eps.value_or(1e-30),
               weight_decay = options.weight_decay.value_or(0);
  SINOPIA_CHECK(
      beta1 >= 0 && beta1 < 1 && eps >= 0 && weight_decay >= 0 && options.clip_threshold > 0 &&
          options.least_scale > 0 && options.decay_rate >= -1 && options.decay_rate < 0,
      InvalidArgument,
      "[adafactor] expected beta1 in [0,1), eps and weight decay from 0, a clip threshold and a least "
      "scale above 0 and a decay rate in [-1,0), got {}, {}, {}, {}, {} and {}",
      beta1, eps, weight_decay, options.clip_threshold, options.least_scale, options.decay_rate);
  SINOPIA_CHECK(!options.beta2, InvalidArgument, "[adafactor] expected a decay rate instead of beta2, got {}",
                *options.beta2);
  SINOPIA_CHECK(options.relative_step || !options.warmup_init, InvalidArgument,
                "[adafactor] warmup_init needs relative_step");
  return std::make_unique<Adafactor>(options);
}

}  // namespace sinopia
