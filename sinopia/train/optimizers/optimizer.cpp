#include "sinopia/train/optimizers/optimizer.h"

#include <cmath>

#include "sinopia/train/training_state.h"

namespace sinopia {
namespace {

Tensor zeros(const Shape& shape, Device device) {
  Tensor y = Tensor::empty(shape, DType::F32, device);
  kernels(device).fill(y, 0);
  return y;
}

constexpr OptimizerInfo kOptimizers[] = {
    {"adamw", "Adam with decoupled weight decay; 8 bytes of state a parameter", make_adamw},
    {"lion", "the sign of a mean gradient; 4 bytes of state a parameter", make_lion},
    {"adafactor", "factored second moments, rates relative to the weights; next to no state", make_adafactor},
    {"muon", "matrices along their orthogonalised mean gradient; 4 bytes of state a parameter", make_muon},
};

}  // namespace

bool is_bias_or_norm(std::string_view name) {
  return name.ends_with("bias") || name.find("norm") != name.npos || name.find("ln_") != name.npos;
}

Optimizer::Optimizer(TensorMap parameters, std::unique_ptr<UpdateRule> rule,
                     std::function<bool(std::string_view)> decays)
    : rule_(std::move(rule)) {
  for (auto& [name, value] : parameters) {
    const bool half = value.dtype() == DType::F16 || value.dtype() == DType::BF16;
    SINOPIA_CHECK(value && (half || value.dtype() == DType::F32), InvalidArgument,
                  "[optimizer] expected {} in f32, f16 or bf16, got {}", name, describe(value));
    SINOPIA_CHECK(!value.storage()->is_mapped(), InvalidArgument,
                  "[optimizer] {} lies in a mapped file and cannot be written; copy it first", name);
    Slot slot;
    slot.name = name;
    slot.decays = !decays || decays(name);
    for (const auto& [what, shape] : rule_->state_of(name, value.shape())) {
      slot.names.push_back(what);
      slot.state.push_back(zeros(shape, value.device()));
    }
    slot.w = value;
    if (half) {
      slot.stored = value;
      slot.w = Tensor::empty(value.shape(), DType::F32, value.device());
      kernels(value.device()).convert(value, slot.w);
    }
    slots_.push_back(std::move(slot));
  }
}

void Optimizer::step(const TensorMap& gradients, double learning_rate, double gradient_scale) {
  SINOPIA_CHECK(std::isfinite(learning_rate) && std::isfinite(gradient_scale), InvalidArgument,
                "[optimizer] expected a finite rate and scale, got {} and {}", learning_rate, gradient_scale);
  SINOPIA_CHECK(gradients.size() == slots_.size(), InvalidArgument,
                "[optimizer] expected {} gradients, got {}", slots_.size(), gradients.size());
  // Both are in the order of their names.
  auto gradient = gradients.begin();
  for (const Slot& slot : slots_) {
    SINOPIA_CHECK(gradient->first == slot.name && gradient->second.shape() == slot.w.shape() &&
                      gradient->second.defined() && gradient->second.dtype() == DType::F32,
                  InvalidArgument, "[optimizer] expected a gradient of {} {}, got {} of {}", slot.name,
                  describe(slot.w), describe(gradient->second), gradient->first);
    ++gradient;
  }
  ++steps_;
  gradient = gradients.begin();
  for (Slot& slot : slots_) {
    const OptimizerStep step{.number = steps_,
                             .learning_rate = learning_rate,
                             .weight_decay = slot.decays ? rule_->weight_decay() : 0,
                             .gradient_scale = gradient_scale};
    rule_->update(step, gradient->second, slot.w, slot.state, slot.stored);
    ++gradient;
  }
}

TensorMap Optimizer::state() const {
  TensorMap result;
  result["step"] = Tensor::from(Shape{1}, std::vector<int64_t>{steps_});
  for (const Slot& slot : slots_) {
    for (size_t i = 0; i < slot.state.size(); ++i) result[slot.name + "." + slot.names[i]] = slot.state[i];
    if (slot.stored) result[slot.name + ".master"] = slot.w;
  }
  return result;
}

void Optimizer::restore(const TensorMap& state) {
  TensorMap own = this->state();
  check_state(state, own, "optimizer");
  steps_ = *state.find("step")->second.data<int64_t>();
  for (auto& [name, tensor] : own) overwrite(tensor, state.find(name)->second);
  for (Slot& slot : slots_) {
    if (slot.stored) kernels(slot.w.device()).convert(slot.w, slot.stored);
  }
}

size_t Optimizer::state_bytes() const {
  size_t bytes = 0;
  for (const auto& [name, tensor] : state()) bytes += tensor.bytes();
  return bytes;
}

std::span<const OptimizerInfo> optimizers() { return kOptimizers; }

Optimizer make_optimizer(std::string_view name, TensorMap parameters, const OptimizerOptions& options) {
  std::string known;
  for (const OptimizerInfo& info : kOptimizers) {
    if (name == info.name) return Optimizer(std::move(parameters), info.make(options), options.decays);
    known += known.empty() ? info.name : fmt::format(", {}", info.name);
  }
  fail(ErrorKind::NotFound, "[optimizer] expected one of {}, got '{}'", known, name);
}

}  // namespace sinopia
