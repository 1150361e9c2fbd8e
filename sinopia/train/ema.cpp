#include "sinopia/train/ema.h"

#include <algorithm>
#include <cmath>

#include "sinopia/backend/kernels.h"
#include "sinopia/train/training_state.h"

namespace sinopia {
namespace {

// Exchanges the numbers of two f32 tensors through a small third one.
void exchange(Tensor& a, Tensor& b) {
  constexpr int64_t kPiece = 1 << 20;
  Kernels& device = kernels(a.device());
  const int64_t count = a.numel();
  const Tensor all_a = a.reshape({count}), all_b = b.reshape({count});
  Tensor between = Tensor::empty({std::min(count, kPiece)}, DType::F32, a.device());
  for (int64_t begin = 0; begin < count; begin += kPiece) {
    const int64_t end = std::min(count, begin + kPiece);
    Tensor piece_a = all_a.slice(begin, end), piece_b = all_b.slice(begin, end),
           piece = between.slice(0, end - begin);
    device.convert(piece_a, piece);
    device.convert(piece_b, piece_a);
    device.convert(piece, piece_b);
  }
}

}  // namespace

Ema::Ema(const TensorMap& parameters, const EmaOptions& options) : options_(options) {
  SINOPIA_CHECK(options.decay >= 0 && options.decay <= 1 && options.min_decay >= 0 &&
                    options.min_decay <= options.decay && options.update_after_step >= 0 &&
                    options.inv_gamma > 0 && options.power > 0,
                InvalidArgument,
                "[ema] expected 0 <= min_decay <= decay <= 1, update_after_step from 0, inv_gamma and power "
                "above 0, got {}, {}, {}, {} and {}",
                options.min_decay, options.decay, options.update_after_step, options.inv_gamma,
                options.power);
  for (const auto& [name, value] : parameters) {
    const DType dtype = value.dtype();
    SINOPIA_CHECK(value && (dtype == DType::F32 || dtype == DType::F16 || dtype == DType::BF16),
                  InvalidArgument, "[ema] expected {} in f32, f16 or bf16, got {}", name, describe(value));
    Tensor& average = averages_[name] = Tensor::empty(value.shape(), DType::F32, value.device());
    kernels(value.device()).convert(value, average);
  }
}

double Ema::decay_at(int64_t step) const {
  const auto t = static_cast<double>(std::max<int64_t>(0, step - options_.update_after_step - 1));
  if (t == 0) return 0;
  const double rising =
      options_.warmup ? 1 - std::pow(1 + t / options_.inv_gamma, -options_.power) : (1 + t) / (10 + t);
  return std::max(options_.min_decay, std::min(options_.decay, rising));
}

void Ema::check_same(const TensorMap& parameters) const {
  const bool same = std::equal(parameters.begin(), parameters.end(), averages_.begin(), averages_.end(),
                               [](const auto& a, const auto& b) {
                                 return a.first == b.first && a.second.shape() == b.second.shape();
                               });
  SINOPIA_CHECK(same, InvalidArgument, "[ema] expected the {} parameters that it began with, got {} others",
                averages_.size(), parameters.size());
}

void Ema::check_not_swapped() const {
  SINOPIA_CHECK(!swapped_, InvalidArgument, "[ema] the averages stand in the model: swap them back first");
}

void Ema::update(const TensorMap& parameters) {
  check_not_swapped();
  check_same(parameters);
  const auto fresh = static_cast<float>(1 - decay_at(++steps_));
  for (auto& [name, average] : averages_) {
    const Tensor& value = parameters.find(name)->second;
    Kernels& device = kernels(value.device());
    if (value.dtype() == DType::F32) {
      device.blend(value, fresh, average);
    } else {
      Tensor wide = Tensor::empty(value.shape(), DType::F32, value.device());
      device.convert(value, wide);
      device.blend(wide, fresh, average);
    }
  }
}

void Ema::swap(TensorMap& parameters) {
  check_same(parameters);
  for (auto& [name, value] : parameters) {
    SINOPIA_CHECK(!value.storage()->is_mapped(), InvalidArgument,
                  "[ema] {} lies in a mapped file and cannot be written", name);
  }
  for (auto& [name, value] : parameters) {
    Tensor& average = averages_.find(name)->second;
    Kernels& device = kernels(value.device());
    if (value.dtype() == DType::F32) {
      exchange(value, average);
    } else if (swapped_) {
      device.convert(kept_.find(name)->second, value);
    } else {
      Tensor& kept = kept_[name] = empty_like(value);
      device.convert(value, kept);
      device.convert(average, value);
    }
  }
  if (swapped_) kept_.clear();
  swapped_ = !swapped_;
}

const TensorMap& Ema::averages() const {
  check_not_swapped();
  return averages_;
}

TensorMap Ema::state() const {
  TensorMap result = averages();
  result["step"] = Tensor::from(Shape{1}, std::vector<int64_t>{steps_});
  return result;
}

void Ema::restore(const TensorMap& state) {
  check_state(state, this->state(), "ema");
  steps_ = *state.find("step")->second.data<int64_t>();
  for (auto& [name, average] : averages_) overwrite(average, state.find(name)->second);
}

size_t Ema::state_bytes() const {
  size_t bytes = sizeof(int64_t);
  for (const auto& [name, average] : averages_) bytes += average.bytes();
  return bytes;
}

}  // namespace sinopia
