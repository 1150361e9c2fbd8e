#include <algorithm>
#include <cmath>

#include "sinopia/autograd/tape.h"
#include "sinopia/backend/kernels.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/train/optimizers/optimizer.h"

namespace sinopia {
namespace {

constexpr double kSquareEps = 1e-30, kLeastScale = 1e-3, kLargestUpdate = 1, kDecayPower = -0.8;

double root_mean_square(const Tensor& x) {
  return std::sqrt(kernels(x.device()).sum_of_squares(x) /
                   static_cast<double>(std::max<int64_t>(1, x.numel())));
}

/// The mean over an axis, which stays with extent 1.
Tensor mean_along(const Tensor& x, int axis) {
  return sum_to(x, x.shape().with(axis, 1)) / static_cast<double>(x.dim(axis));
}

void copy(const Tensor& from, Tensor& to) { kernels(to.device()).convert(from.reshape(to.shape()), to); }

class Adafactor final : public Optimizer {
 public:
  Adafactor(const TensorMap& parameters, const OptimizerOptions& options)
      : Optimizer(parameters, options,
                  options.beta1 > 0 ? std::vector<std::string_view>{"rows", "columns", "mean"}
                                    : std::vector<std::string_view>{"rows", "columns"}) {
    allocate();
  }

 private:
  // A vector's squares are its rows, and it has no columns.
  Shape shape_of(std::string_view kind, const Tensor& parameter) const override {
    const bool factored = parameter.rank() >= 2;
    if (kind == "mean" || (kind == "rows" && !factored)) return parameter.shape();
    if (!factored) return Shape{0};
    return parameter.shape().with(kind == "rows" ? -1 : -2, 1);
  }

  void update(const Tensor& raw, double learning_rate, float gradient_scale, Tensor& parameter,
              std::vector<Tensor>& state) override {
    const RecordGradients off(false);
    const Tensor gradient = gradient_scale == 1 ? raw : raw * static_cast<double>(gradient_scale);
    const double rate =
        learning_rate *
        (options_.scale_by_parameter ? std::max(kLeastScale, root_mean_square(parameter)) : 1.0);
    const double kept = 1 - std::pow(static_cast<double>(steps_), kDecayPower);
    const Tensor squares = square(gradient) + kSquareEps;
    const auto blend = [kept](Tensor& old, const Tensor& now) { copy(old * kept + now * (1 - kept), old); };
    Tensor change;
    if (parameter.rank() >= 2) {
      blend(state[0], mean_along(squares, -1));
      blend(state[1], mean_along(squares, -2));
      const Tensor rows = state[0] / mean_along(state[0], -2);
      change = gradient / (sqrt(rows) * sqrt(state[1]));
    } else {
      blend(state[0], squares);
      change = gradient / sqrt(state[0]);
    }
    change = change * (rate / std::max(1.0, root_mean_square(change) / kLargestUpdate));
    if (options_.beta1 > 0) {
      copy(state[2] * options_.beta1 + change * (1 - options_.beta1), state[2]);
      change = state[2];
    }
    copy(parameter * (1 - options_.weight_decay * rate) - change, parameter);
  }
};

}  // namespace

std::unique_ptr<Optimizer> make_adafactor(const TensorMap& parameters, const OptimizerOptions& options) {
  return std::make_unique<Adafactor>(parameters, options);
}

}  // namespace sinopia
