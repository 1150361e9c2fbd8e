#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "sinopia/io/tensor_map.h"
#include "sinopia/nn/scope.h"

namespace sinopia {

/// Parameters out of a file's tensors, strictly: every key used once, every parameter filled.
/// The tensors keep the file's layout and names (diffusers') and stay in the mapped file; [O,I,1,1] serves
/// where [O,I] is asked for, and the reverse. Only what is stored in another type than f32, f16 or bf16, or
/// quantised and no matrix, is copied, as f32.
class CheckpointParameters final : public ParameterSource {
 public:
  /// `what` names the part in errors ("unet").
  CheckpointParameters(TensorMap tensors, std::string what);
  Tensor take(const std::string& name, const Shape& shape, const Initialiser& initialiser) override;
  bool has(const std::string& name) const override;
  /// Throws Corrupt naming the keys that no one took.
  void finish() const;

 private:
  TensorMap tensors_;
  std::string what_;
  std::set<std::string> taken_;
};

/// Fresh f32 parameters from a seed; each depends on its name and the seed alone. Keeps what it gave out, to
/// be written as a checkpoint.
class RandomParameters final : public ParameterSource {
 public:
  explicit RandomParameters(uint64_t seed) : seed_(seed) {}
  Tensor take(const std::string& name, const Shape& shape, const Initialiser& initialiser) override;
  bool has(const std::string&) const override { return true; }
  const TensorMap& taken() const { return taken_; }

 private:
  uint64_t seed_;
  TensorMap taken_;
};

/// Fresh parameters of a whole network, Network(Scope, config), by the names that a checkpoint gives them.
template <class Network, class Config>
TensorMap fresh_tensors(const Config& config, uint64_t seed) {
  RandomParameters parameters(seed);
  Network(Scope(parameters), config);
  return parameters.taken();
}

/// Another source's parameters in f32 and memory of their own, as leaves whose gradients are asked for: what
/// is to be trained. The model and this share their elements, so that what an optimizer writes there is what
/// the model multiplies by.
class TrainableParameters final : public ParameterSource {
 public:
  /// `from` must stay until the model is built. Parameters whose names `trains` does not hold for are given
  /// out as they are; absent, it holds for all.
  explicit TrainableParameters(ParameterSource& from, std::function<bool(std::string_view)> trains = {})
      : from_(from), trains_(std::move(trains)) {}
  Tensor take(const std::string& name, const Shape& shape, const Initialiser& initialiser) override;
  bool has(const std::string& name) const override { return from_.has(name); }
  Placement placement() const override { return from_.placement(); }
  const TensorMap& leaves() const { return leaves_; }

 private:
  ParameterSource& from_;
  std::function<bool(std::string_view)> trains_;
  TensorMap leaves_;
};

/// Gives out no values, only notes names and shapes: what a model with this configuration consists of.
class ParameterShapes final : public ParameterSource {
 public:
  Tensor take(const std::string& name, const Shape& shape, const Initialiser& initialiser) override;
  bool has(const std::string&) const override { return true; }
  /// Name to shape.
  const std::map<std::string, Shape>& shapes() const { return shapes_; }

 private:
  std::map<std::string, Shape> shapes_;
};

}  // namespace sinopia
