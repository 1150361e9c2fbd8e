#pragma once

#include <vector>

#include "sinopia/models/unet/token_merging.h"
#include "sinopia/nn/layers.h"

namespace sinopia {

/// Keys and values of one cross-attention, [N,S,C] each.
struct KeysValues {
  Tensor keys, values;
};

/// The text as the UNet needs it, which is the same at every step: one entry a cross-attention.
struct UNetContext {
  std::vector<KeysValues> layers;
};

/// Counts the cross-attentions while a UNet is built, so that each knows its place in a UNetContext.
using ContextSlots = int64_t;

/// Attention as in the UNet's transformers: no bias on q, k and v. Names are diffusers' ("to_q", ...).
class TransformerAttention {
 public:
  /// context_dim 0 is attention among the tokens themselves.
  TransformerAttention(const Scope& scope, int64_t dim, int64_t heads, int64_t context_dim,
                       ContextSlots& slots);
  /// x [N,T,C] normalised, residual [N,T,C] or absent -> residual + attention
  Tensor operator()(const Tensor& x, const Tensor& residual, const UNetContext& context) const;
  /// Fills this layer's place from the text [N,S,context_dim].
  void prepare(const Tensor& text, UNetContext& context) const;

 private:
  Linear q_, k_, v_, out_;
  int heads_;
  int64_t slot_ = -1;
};

struct TransformerShape {
  int64_t channels = 0;
  int64_t heads = 1;
  int64_t layers = 1;
  int64_t context_dim = 0;
  bool only_cross_attention = false;
  int groups = 32;
};

/// Self-attention, cross-attention and a gated feed-forward. Reference: diffusers models/attention.py
/// BasicTransformerBlock with norm_type "layer_norm".
class TransformerBlock {
 public:
  TransformerBlock(const Scope& scope, const TransformerShape& shape, ContextSlots& slots);
  /// x [N,T,C]; with `merged`, attention among the tokens themselves sees the merged ones.
  Tensor operator()(Tensor x, const UNetContext& context, const MergedTokens* merged = nullptr) const;
  void prepare(const Tensor& text, UNetContext& context) const;

 private:
  LayerNorm norm1_, norm2_, norm3_;
  std::vector<TransformerAttention> attention_;
  Linear gate_, out_;
};

/// A feature map as tokens through transformer blocks, with a residual. Reference: diffusers
/// models/transformers/transformer_2d.py; its 1x1 convolutions are linear here too.
class SpatialTransformer {
 public:
  SpatialTransformer(const Scope& scope, const TransformerShape& shape, ContextSlots& slots);
  /// [N,H,W,C] -> [N,H,W,C]; with `merging`, tokens are matched in front of every block.
  Tensor operator()(const Tensor& x, const UNetContext& context, TokenMerging* merging = nullptr) const;
  void prepare(const Tensor& text, UNetContext& context) const;

 private:
  GroupNorm norm_;
  Linear proj_in_;
  std::vector<TransformerBlock> blocks_;
  Linear proj_out_;
};

}  // namespace sinopia
