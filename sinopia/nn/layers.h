#pragma once

#include "sinopia/nn/scope.h"
#include "sinopia/ops/conv2d.h"
#include "sinopia/ops/norm.h"
#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// y = x W^T + b; "weight" [out,in], "bias" [out].
class Linear {
 public:
  Linear() = default;
  Linear(Scope scope, int64_t in, int64_t out, bool bias = true);
  /// x [..,in] -> activation(x W^T + b + add) [..,out]; add may be absent.
  Tensor operator()(const Tensor& x, const Tensor& add = {}, Activation activation = Activation::None) const;
  const Tensor& weight() const { return weight_; }
  const Tensor& bias() const { return bias_; }

 private:
  Tensor weight_, bias_;
};

/// Square convolution; "weight" [out,kernel,kernel,in], "bias" [out].
class Conv2d {
 public:
  Conv2d() = default;
  /// Zero padding of kernel / 2 on every side unless `options` is given.
  Conv2d(Scope scope, int64_t in, int64_t out, int kernel);
  Conv2d(Scope scope, int64_t in, int64_t out, int kernel, const Conv2dOptions& options, bool bias = true);
  /// x [N,H,W,in] -> activation(conv + bias + add) [N,OH,OW,out]; add is [N,OH,OW,out], or [N,out] for every
  /// pixel alike, or absent.
  Tensor operator()(const Tensor& x, const Tensor& add = {}, Activation activation = Activation::None) const;
  const Tensor& weight() const { return weight_; }

 private:
  Tensor weight_, bias_;
  Conv2dOptions options_;
};

/// "weight" and "bias" [channels].
class GroupNorm {
 public:
  GroupNorm() = default;
  GroupNorm(Scope scope, int64_t channels, int groups = 32, float eps = 1e-5f);
  Tensor operator()(const Tensor& x, Activation activation = Activation::None) const;

 private:
  Tensor weight_, bias_;
  int groups_ = 32;
  float eps_ = 1e-5f;
};

/// "weight" and "bias" [channels].
class LayerNorm {
 public:
  LayerNorm() = default;
  LayerNorm(Scope scope, int64_t channels, float eps = 1e-5f);
  Tensor operator()(const Tensor& x) const;

 private:
  Tensor weight_, bias_;
  float eps_ = 1e-5f;
};

/// A table of rows; "weight" [count,dim].
class Embedding {
 public:
  Embedding() = default;
  /// Fresh rows are normal numbers of this deviation.
  Embedding(Scope scope, int64_t count, int64_t dim, float deviation = 1);
  /// ids i32 [..] -> [..,dim]
  Tensor operator()(const Tensor& ids) const;
  const Tensor& weight() const { return weight_; }

 private:
  Tensor weight_;
};

}  // namespace sinopia
