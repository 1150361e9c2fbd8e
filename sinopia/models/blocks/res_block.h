#pragma once

#include <optional>

#include "sinopia/nn/layers.h"

namespace sinopia {

/// Two normalised 3x3 convolutions with a residual; of the UNet (with a time embedding) and of the
/// autoencoder (without). Reference: diffusers models/resnet.py ResnetBlock2D, whose names the parameters
/// have.
class ResBlock {
 public:
  /// time_dim 0 leaves the time embedding out.
  ResBlock(const Scope& scope, int64_t in, int64_t out, int64_t time_dim, int groups, float eps);
  /// x [N,H,W,in], time [N,time_dim], already activated, or absent -> [N,H,W,out]
  Tensor operator()(const Tensor& x, const Tensor& time = {}) const;

 private:
  GroupNorm norm1_;
  Conv2d conv1_;
  std::optional<Linear> time_;
  GroupNorm norm2_;
  Conv2d conv2_;
  std::optional<Linear> shortcut_;
};

/// A 3x3 convolution with stride 2; "conv". Zeros on every side, or below and to the right alone, as the
/// autoencoder has them (diffusers: padding 0).
class Downsample {
 public:
  Downsample(const Scope& scope, int64_t channels, bool pad_all_sides);
  /// [N,H,W,C] -> [N,(H+1)/2,(W+1)/2,C], or [N,H/2,W/2,C] if only one side is padded.
  Tensor operator()(const Tensor& x) const { return conv_(x); }

 private:
  Conv2d conv_;
};

/// Nearest neighbours, then a 3x3 convolution; "conv".
class Upsample {
 public:
  Upsample(const Scope& scope, int64_t channels);
  /// [N,H,W,C] -> [N,height,width,C]
  Tensor operator()(const Tensor& x, int64_t height, int64_t width) const;

 private:
  Conv2d conv_;
};

}  // namespace sinopia
