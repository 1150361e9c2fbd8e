#pragma once

#include <optional>

#include "sinopia/nn/scope.h"
#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// Another source's parameters, as a network on this device needs them: on the CPU as they are; on a GPU in
/// the placement's dtype, quantised ones and those that are there already as they are. There they are
/// uploaded when they are first used, and may leave again when memory is short.
class PlacedParameters final : public ParameterSource {
 public:
  /// `from` must stay until the network is built. `stored`: what the parameters themselves are on a GPU, for
  /// networks that are trained in f32 and compute in halves.
  PlacedParameters(ParameterSource& from, const Placement& placement, std::optional<DType> stored = {})
      : from_(from), placement_(placement), stored_(stored.value_or(placement.dtype)) {}
  Tensor take(const std::string& name, const Shape& shape, const Initialiser& initialiser) override;
  bool has(const std::string& name) const override { return from_.has(name); }
  Placement placement() const override { return placement_; }

 private:
  ParameterSource& from_;
  Placement placement_;
  DType stored_;
};

/// The place of a network: what comes in from elsewhere enters, the result leaves. Nothing happens where both
/// are the same, as on the CPU. Gradients take the same way back.
class Place {
 public:
  Place() = default;
  explicit Place(const Scope& scope) : placement_(scope.placement()) {}
  /// x, f32, f16 or bf16, as the network computes with it; an absent tensor stays absent.
  Tensor enter(const Tensor& x) const;
  /// x on the network's device, in its own type; an absent tensor stays absent.
  Tensor bring(const Tensor& x) const;
  /// y as the caller has its tensors.
  Tensor leave(const Tensor& y, Device device, DType dtype = DType::F32) const;
  DType dtype() const { return placement_.dtype; }
  Device device() const { return placement_.device; }

 private:
  Placement placement_;
};

}  // namespace sinopia
