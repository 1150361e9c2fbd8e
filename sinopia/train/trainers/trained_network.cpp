#include "sinopia/train/trainers/trained_network.h"

#include <algorithm>
#include <utility>

#include "sinopia/autograd/tape.h"
#include "sinopia/backend/devices.h"
#include "sinopia/base/error.h"
#include "sinopia/io/safetensors.h"
#include "sinopia/train/training_state.h"

namespace sinopia {
namespace {

namespace fs = std::filesystem;

OptimizerOptions options_of(const OptimizerRecipe& recipe) {
  OptimizerOptions options{.beta1 = recipe.beta1,
                           .beta2 = recipe.beta2,
                           .eps = recipe.eps,
                           .weight_decay = recipe.weight_decay,
                           .momentum = recipe.momentum,
                           .relative_step = false};
  if (!recipe.decay_biases_and_norms)
    options.decays = [](std::string_view name) { return !is_bias_or_norm(name); };
  return options;
}

fs::path file_of(const fs::path& folder, const std::string& name, const char* kind) {
  return folder / (name + kind + ".safetensors");
}

}  // namespace

Placement placement_of(const Recipe& recipe) {
  const Device device = open_device(recipe.device);
  SINOPIA_CHECK(!device.is_cpu() || recipe.precision == DType::F32, InvalidArgument,
                "[train] the CPU computes in f32: expected precision: f32, got {}",
                to_string(recipe.precision));
  return {device, recipe.precision};
}

TrainedNetwork::TrainedNetwork(std::string name, TensorMap leaves, const OptimizerRecipe& optimizer,
                               const EmaRecipe& ema)
    : name_(std::move(name)),
      leaves_(std::move(leaves)),
      optimizer_(make_optimizer(optimizer.name, leaves_, options_of(optimizer))) {
  if (ema.keep) ema_.emplace(leaves_, EmaOptions{.decay = ema.decay, .warmup = ema.warmup});
}

void TrainedNetwork::gather(double scale) {
  gradients_.add(take_gradients(leaves_), static_cast<float>(scale));
}

void TrainedNetwork::finish_step(bool taken) {
  gradients_.clear();
  if (taken && ema_) ema_->update(leaves_);
}

void TrainedNetwork::write(const fs::path& folder) const {
  write_safetensors(file_of(folder, name_, ""), {.tensors = on_cpu(leaves_), .metadata = {}});
  write_safetensors(file_of(folder, name_, ".optimizer"),
                    {.tensors = on_cpu(optimizer_.state()), .metadata = {}});
  if (ema_)
    write_safetensors(file_of(folder, name_, ".average"), {.tensors = on_cpu(ema_->state()), .metadata = {}});
}

void TrainedNetwork::read(const fs::path& folder) {
  const fs::path file = file_of(folder, name_, "");
  const TensorMap weights = read_safetensors(file).tensors;
  const auto same = [](const auto& a, const auto& b) {
    return a.first == b.first && a.second.shape() == b.second.shape() && a.second.dtype() == b.second.dtype();
  };
  SINOPIA_CHECK(std::equal(leaves_.begin(), leaves_.end(), weights.begin(), weights.end(), same), Corrupt,
                "[train] '{}' holds another network than the recipe describes", file.string());
  optimizer_.restore(read_safetensors(file_of(folder, name_, ".optimizer")).tensors);
  if (ema_) ema_->restore(read_safetensors(file_of(folder, name_, ".average")).tensors);
  for (auto& [name, leaf] : leaves_) overwrite(leaf, weights.find(name)->second);
}

TensorMap TrainedNetwork::result() const {
  TensorMap result = ema_ ? ema_->averages() : leaves_;
  for (auto& [name, tensor] : result) tensor = without_gradient(tensor);
  return result;
}

}  // namespace sinopia
