#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "sinopia/nn/parameters.h"
#include "sinopia/nn/placement.h"
#include "sinopia/train/ema.h"
#include "sinopia/train/optimizers/gradients.h"
#include "sinopia/train/recipe/recipe.h"

namespace sinopia {

/// A network in training: its parameters, what changes them, and their average.
class TrainedNetwork {
 public:
  /// `name` names its files and stands in errors; `leaves` are those of TrainableParameters. Throws as
  /// make_optimizer does.
  TrainedNetwork(std::string name, TensorMap leaves, const OptimizerRecipe& optimizer, const EmaRecipe& ema);

  /// Adds the gradients that backward() brought to the leaves, times `scale`, to those of the step.
  void gather(double scale);
  /// For StepGuard, at a learning rate.
  StepGuard::Update update(double learning_rate) { return {&optimizer_, &gradients_.sums(), learning_rate}; }
  /// After a step was taken or left out: what was gathered is forgotten, and the average follows.
  void finish_step(bool taken);

  const std::string& name() const { return name_; }
  /// As they are trained, sharing elements.
  const TensorMap& leaves() const { return leaves_; }
  /// What is to be used: the average if one is kept, else the parameters.
  TensorMap result() const;

  /// NAME.safetensors, NAME.optimizer.safetensors and NAME.average.safetensors in a folder.
  void write(const std::filesystem::path& folder) const;
  /// Goes on from them, bit for bit. Throws as the reader does, and Corrupt for files of another network.
  void read(const std::filesystem::path& folder);

 private:
  std::string name_;
  TensorMap leaves_;
  Optimizer optimizer_;
  std::optional<Ema> ema_;
  GradientBuffer gradients_;
};

/// A network on leaves that hold what a checkpoint's tensors do, which are all used; `what` names it in
/// errors, `trains` is that of TrainableParameters. Leaves are f32 wherever and in whatever the network
/// computes. Throws as CheckpointParameters does.
template <class Network, class Config>
Network trainable_network(TensorMap tensors, const Config& config, const std::string& what,
                          const Placement& placement, TensorMap& leaves,
                          std::function<bool(std::string_view)> trains = {}) {
  CheckpointParameters given(std::move(tensors), what);
  PlacedParameters placed(given, placement, DType::F32);
  TrainableParameters parameters(placed, std::move(trains));
  Network network(Scope(parameters), config);
  given.finish();
  leaves = parameters.leaves();
  return network;
}

/// The device of a recipe, made ready, and what its networks compute in there. Throws as open_device does,
/// and InvalidArgument for a precision that the CPU does not have.
Placement placement_of(const Recipe& recipe);

}  // namespace sinopia
