#include "sinopia/train/optimizers/optimizer.h"

#include <algorithm>

#include <fmt/ranges.h>

#include "sinopia/autograd/tape.h"
#include "sinopia/backend/kernels.h"
#include "sinopia/base/error.h"
#include "sinopia/ops/shape.h"

namespace sinopia {

Optimizer::Optimizer(const TensorMap& parameters, const OptimizerOptions& options,
                     std::vector<std::string_view> kinds)
    : options_(options), kinds_(std::move(kinds)) {
  const auto is_share = [](double beta) { return beta >= 0 && beta < 1; };
  SINOPIA_CHECK(
      is_share(options.beta1) && is_share(options.beta2) && options.eps >= 0 && options.weight_decay >= 0,
      InvalidArgument,
      "[optimizer] expected betas in [0,1), eps and weight decay >= 0, got {}, {}, {} and {}", options.beta1,
      options.beta2, options.eps, options.weight_decay);
  for (const auto& [name, parameter] : parameters) {
    SINOPIA_CHECK(parameter.dtype() == DType::F32, InvalidArgument, "[optimizer] expected f32, got {} for {}",
                  describe(parameter), name);
    names_.push_back(name);
    parameters_.push_back(without_gradient(parameter));
  }
}

void Optimizer::allocate() {
  for (const Tensor& parameter : parameters_) {
    std::vector<Tensor>& kept = state_.emplace_back();
    for (const std::string_view kind : kinds_)
      kept.push_back(zeros(shape_of(kind, parameter), parameter.device()));
  }
}

Shape Optimizer::shape_of(std::string_view, const Tensor& parameter) const { return parameter.shape(); }

void Optimizer::step(const std::vector<Tensor>& gradients, double learning_rate, float gradient_scale) {
  SINOPIA_CHECK(gradients.size() == parameters_.size(), InvalidArgument,
                "[optimizer] expected {} gradients, got {}", parameters_.size(), gradients.size());
  for (size_t i = 0; i < gradients.size(); ++i) {
    SINOPIA_CHECK(!gradients[i] || gradients[i].shape() == parameters_[i].shape(), InvalidArgument,
                  "[optimizer] expected a gradient {} for {}, got {}", to_string(parameters_[i].shape()),
                  names_[i], describe(gradients[i]));
  }
  ++steps_;
  for (size_t i = 0; i < gradients.size(); ++i) {
    if (gradients[i]) update(gradients[i], learning_rate, gradient_scale, parameters_[i], state_[i]);
  }
}

TensorMap Optimizer::state() const {
  TensorMap result;
  result["step"] = Tensor::from(Shape{1}, std::vector<int64_t>{steps_});
  for (size_t i = 0; i < names_.size(); ++i) {
    for (size_t k = 0; k < kinds_.size(); ++k)
      result[std::string(kinds_[k]) + "." + names_[i]] = state_[i][k];
  }
  return result;
}

void Optimizer::restore(const TensorMap& state) {
  const TensorMap own = this->state();
  for (const auto& [name, tensor] : own) {
    const auto found = state.find(name);
    SINOPIA_CHECK(found != state.end(), Corrupt, "[optimizer] the saved state lacks {}", name);
    SINOPIA_CHECK(found->second.shape() == tensor.shape() && found->second.dtype() == tensor.dtype(), Corrupt,
                  "[optimizer] expected {} for {}, got {}", describe(tensor), name, describe(found->second));
  }
  for (const auto& [name, tensor] : state)
    SINOPIA_CHECK(own.contains(name), Corrupt, "[optimizer] the saved state has {}, which no parameter has",
                  name);
  for (const auto& [name, tensor] : own) {
    if (name == "step") continue;
    Tensor to = tensor;
    kernels(to.device()).convert(state.at(name), to);
  }
  steps_ = state.at("step").values<int64_t>()[0];
}

const std::vector<OptimizerEntry>& optimizers() {
  static const std::vector<OptimizerEntry> all = {
      {"adamw", make_adamw, {}, "AdamW: steps by the mean gradient over the root of its mean square"},
      {"lion",
       make_lion,
       {.beta2 = 0.99},
       "Lion: steps of one size by sign; a third to a tenth of AdamW's rate"},
      {"adafactor",
       make_adafactor,
       {.beta1 = 0, .weight_decay = 0},
       "Adafactor: squares kept as rows and columns"},
  };
  return all;
}

const OptimizerEntry& optimizer(std::string_view name) {
  const auto found = std::ranges::find(optimizers(), name, &OptimizerEntry::name);
  if (found != optimizers().end()) return *found;
  std::vector<std::string_view> names;
  for (const OptimizerEntry& entry : optimizers()) names.push_back(entry.name);
  fail(ErrorKind::NotFound, "[optimizer] no '{}'; there are {}", name, fmt::join(names, ", "));
}

}  // namespace sinopia
