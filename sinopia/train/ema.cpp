#include "sinopia/train/ema.h"

#include <algorithm>
#include <cmath>

#include "sinopia/autograd/tape.h"
#include "sinopia/backend/kernels.h"
#include "sinopia/base/error.h"

namespace sinopia {
namespace {

void copy(const Tensor& from, Tensor to) { kernels(to.device()).convert(from, to); }

Tensor copy_of(const Tensor& x) {
  Tensor y = empty_like(x);
  copy(x, y);
  return y;
}

}  // namespace

double EmaSchedule::kept(int64_t step) const {
  const auto steps = static_cast<double>(std::max<int64_t>(0, step - from_step - 1));
  if (steps <= 0) return 0;
  const double risen = warm_up ? 1 - std::pow(1 + steps / inverse_gamma, -power) : (1 + steps) / (10 + steps);
  return std::max(std::min(risen, decay), least);
}

Ema::Ema(const TensorMap& parameters, const EmaSchedule& schedule) : schedule_(schedule) {
  for (const auto& [name, parameter] : parameters) {
    parameters_[name] = without_gradient(parameter);
    average_[name] = copy_of(parameters_[name]);
  }
}

void Ema::update() {
  ++steps_;
  const auto weight = static_cast<float>(1 - schedule_.kept(steps_));
  for (auto& [name, average] : average_) {
    const Tensor& parameter = parameters_.at(name);
    kernels(parameter.device()).approach(parameter, weight, average);
  }
}

void Ema::swap() {
  for (auto& [name, average] : average_) {
    const Tensor& parameter = parameters_.at(name);
    const Tensor before = copy_of(parameter);
    copy(average, parameter);
    copy(before, average);
  }
}

void Ema::restore(const TensorMap& average, int64_t steps) {
  SINOPIA_CHECK(average.size() == average_.size(), Corrupt, "[ema] expected {} tensors, got {}",
                average_.size(), average.size());
  for (const auto& [name, own] : average_) {
    const auto found = average.find(name);
    SINOPIA_CHECK(
        found != average.end() && found->second.shape() == own.shape() && found->second.dtype() == DType::F32,
        Corrupt, "[ema] expected {} for {}, got {}", describe(own), name,
        found == average.end() ? "nothing" : describe(found->second));
  }
  for (auto& [name, own] : average_) copy(average.at(name), own);
  steps_ = steps;
}

}  // namespace sinopia
