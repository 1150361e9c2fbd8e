#pragma once

#include <string>
#include <string_view>

#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// How a parameter starts when it is not read from a file.
struct Initialiser {
  enum class Kind { Zeros, Ones, Uniform, Normal };
  Kind kind = Kind::Uniform;
  float scale = 0;  ///< half width of Uniform, deviation of Normal

  static Initialiser zeros() { return {Kind::Zeros, 0}; }
  static Initialiser ones() { return {Kind::Ones, 0}; }
  static Initialiser uniform(float bound) { return {Kind::Uniform, bound}; }
  static Initialiser normal(float deviation) { return {Kind::Normal, deviation}; }
  /// PyTorch's default of Linear and Conv: uniform within 1/sqrt(fan_in).
  static Initialiser fan_in(int64_t inputs);
};

/// Where a network computes and in which type: on the CPU always f32, whatever its weights are stored in; on
/// a GPU f32, f16 or bf16, with sums in f32.
struct Placement {
  Device device = {};
  DType dtype = DType::F32;
};

/// Where a model under construction gets its parameters: a checkpoint, or fresh random values.
class ParameterSource {
 public:
  virtual ~ParameterSource() = default;
  /// The parameter called `name` ("down_blocks.0.resnets.1.conv1.weight") in our layout. Throws NotFound if
  /// it is not there, Corrupt if its shape differs, InvalidArgument if it was taken before.
  virtual Tensor take(const std::string& name, const Shape& shape, const Initialiser& initialiser) = 0;
  /// Whether `name` can be taken; for parameters that some files lack by design.
  virtual bool has(const std::string& name) const = 0;
  /// Of the networks that are built from it.
  virtual Placement placement() const { return {}; }
};

/// A place in a model's tree of names, which hands out the parameters below it.
class Scope {
 public:
  explicit Scope(ParameterSource& source, std::string path = "") : source_(&source), path_(std::move(path)) {}

  Scope operator/(std::string_view name) const { return Scope(*source_, join(name)); }
  Scope operator/(int64_t index) const { return *this / std::to_string(index); }
  Tensor parameter(std::string_view name, const Shape& shape, const Initialiser& initialiser) const {
    return source_->take(join(name), shape, initialiser);
  }
  bool has(std::string_view name) const { return source_->has(join(name)); }
  const std::string& path() const { return path_; }
  Placement placement() const { return source_->placement(); }

 private:
  std::string join(std::string_view name) const {
    return path_.empty() ? std::string(name) : path_ + "." + std::string(name);
  }
  ParameterSource* source_;
  std::string path_;
};

}  // namespace sinopia
