#pragma once

#include <vector>

#include "sinopia/nn/layers.h"

namespace sinopia {

struct PatchDiscriminatorConfig {
  int64_t in_channels = 3;
  int64_t width = 64;  ///< of the first layer; doubled by each of the next, up to 8 times
  int64_t layers = 3;  ///< that halve the picture
};

/// Tells patches of pictures from those of reconstructions (Isola et al. 2017, as the autoencoders of latent
/// diffusion were trained with). Batch norm takes the statistics of its batch. Parameters have the names of
/// taming-transformers' NLayerDiscriminator ("main.0.weight").
class PatchDiscriminator {
 public:
  /// Throws InvalidArgument for sizes below 1.
  PatchDiscriminator(const Scope& scope, const PatchDiscriminatorConfig& config);

  /// x [N,H,W,in_channels] in [-1,1] -> logits [N,h,w,1], above 0 for real patches. If `features` is given,
  /// what every layer but the last gives is appended to it.
  Tensor forward(const Tensor& x, std::vector<Tensor>* features = nullptr) const;
  /// The same parameters, of which no gradient is asked for.
  PatchDiscriminator frozen() const;

 private:
  struct Layer {
    Tensor weight, bias;            // of the convolution; the bias may be absent
    Tensor norm_weight, norm_bias;  // both present or absent
    int stride;
  };
  std::vector<Layer> layers_;
};

}  // namespace sinopia
