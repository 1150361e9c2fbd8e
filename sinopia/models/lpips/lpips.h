#pragma once

#include <filesystem>
#include <vector>

#include "sinopia/io/tensor_map.h"
#include "sinopia/nn/layers.h"
#include "sinopia/nn/placement.h"

namespace sinopia {

/// How different two pictures look: squared differences of VGG16's features, weighed as people judged (Zhang
/// et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", version 0.1).
/// Reference: the package lpips with net="vgg".
class Lpips {
 public:
  /// Parameters "features.0.weight" .. "features.28.bias" as torchvision's vgg16 names them.
  explicit Lpips(const Scope& scope);

  /// x and y [N,H,W,3] in [-1,1], at least 16x16 pixels -> [N] where they are; 0 for equal pictures. Throws
  /// InvalidArgument for other shapes.
  Tensor forward(const Tensor& x, const Tensor& y) const;

 private:
  std::vector<Tensor> features(const Tensor& x) const;

  Place place_;
  std::vector<std::vector<Conv2d>> stages_;
};

/// From torchvision's vgg16 weights (.pth or safetensors), whose classifier is left out. Throws NotFound or
/// Corrupt as the readers do.
Lpips load_lpips(const std::filesystem::path& vgg16, const Placement& placement = {});

}  // namespace sinopia
