#pragma once

#include "sinopia/nn/layers.h"

namespace sinopia {

/// Attention among the pixels of a feature map, normalised, with a residual: the autoencoder's mid block and
/// the UNets without a text. Reference: diffusers models/attention_processor.py Attention with
/// residual_connection, whose names the parameters have.
class SelfAttention {
 public:
  SelfAttention(const Scope& scope, int64_t channels, int heads, int groups, float eps);
  /// [N,H,W,C] -> [N,H,W,C]
  Tensor operator()(const Tensor& x) const;

 private:
  GroupNorm norm_;
  Linear q_, k_, v_, out_;
  int heads_;
};

}  // namespace sinopia
