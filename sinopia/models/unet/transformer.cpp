#include "sinopia/models/unet/transformer.h"

#include "sinopia/ops/activation.h"
#include "sinopia/ops/attention.h"
#include "sinopia/ops/elementwise.h"

namespace sinopia {

TransformerAttention::TransformerAttention(const Scope& scope, int64_t dim, int64_t heads,
                                           int64_t context_dim, ContextSlots& slots)
    : q_(scope / "to_q", dim, dim, /*bias=*/false),
      k_(scope / "to_k", context_dim > 0 ? context_dim : dim, dim, /*bias=*/false),
      v_(scope / "to_v", context_dim > 0 ? context_dim : dim, dim, /*bias=*/false),
      out_(scope / "to_out" / 0, dim, dim),
      heads_(static_cast<int>(heads)) {
  if (context_dim > 0) slot_ = slots++;
}

Tensor TransformerAttention::operator()(const Tensor& x, const Tensor& residual,
                                        const UNetContext& context) const {
  const KeysValues kv = slot_ < 0 ? KeysValues{k_(x), v_(x)} : context.layers.at(static_cast<size_t>(slot_));
  return out_(attention(q_(x), kv.keys, kv.values, {.heads = heads_}), residual);
}

void TransformerAttention::prepare(const Tensor& text, UNetContext& context) const {
  if (slot_ >= 0) context.layers.at(static_cast<size_t>(slot_)) = {k_(text), v_(text)};
}

TransformerBlock::TransformerBlock(const Scope& scope, const TransformerShape& shape, ContextSlots& slots)
    : norm1_(scope / "norm1", shape.channels),
      norm3_(scope / "norm3", shape.channels),
      gate_(scope / "ff" / "net" / 0 / "proj", shape.channels, 8 * shape.channels),
      out_(scope / "ff" / "net" / 2, 4 * shape.channels, shape.channels) {
  attention_.emplace_back(scope / "attn1", shape.channels, shape.heads,
                          shape.only_cross_attention ? shape.context_dim : 0, slots);
  if (shape.context_dim > 0) {
    norm2_ = LayerNorm(scope / "norm2", shape.channels);
    attention_.emplace_back(scope / "attn2", shape.channels, shape.heads, shape.context_dim, slots);
  }
}

Tensor TransformerBlock::operator()(Tensor x, const UNetContext& context, const MergedTokens* merged) const {
  x = merged ? x + merged->unmerge(attention_[0](merged->merge(norm1_(x)), {}, context))
             : attention_[0](norm1_(x), x, context);
  if (attention_.size() > 1) x = attention_[1](norm2_(x), x, context);
  return out_(geglu(gate_(norm3_(x))), x);
}

void TransformerBlock::prepare(const Tensor& text, UNetContext& context) const {
  for (const TransformerAttention& a : attention_) a.prepare(text, context);
}

SpatialTransformer::SpatialTransformer(const Scope& scope, const TransformerShape& shape, ContextSlots& slots)
    : norm_(scope / "norm", shape.channels, shape.groups, 1e-6f),
      proj_in_(scope / "proj_in", shape.channels, shape.channels),
      proj_out_(scope / "proj_out", shape.channels, shape.channels) {
  const Scope blocks = scope / "transformer_blocks";
  for (int64_t i = 0; i < shape.layers; ++i) blocks_.emplace_back(blocks / i, shape, slots);
}

Tensor SpatialTransformer::operator()(const Tensor& x, const UNetContext& context,
                                      TokenMerging* merging) const {
  const Shape tokens{x.dim(0), x.dim(1) * x.dim(2), x.dim(3)};
  Tensor h = proj_in_(norm_(x).reshape(tokens));
  for (const TransformerBlock& block : blocks_) {
    std::optional<MergedTokens> merged;
    if (merging) merged = merging->match(h, x.dim(1), x.dim(2));
    h = block(std::move(h), context, merged ? &*merged : nullptr);
  }
  return proj_out_(h, x.reshape(tokens)).reshape(x.shape());
}

void SpatialTransformer::prepare(const Tensor& text, UNetContext& context) const {
  for (const TransformerBlock& block : blocks_) block.prepare(text, context);
}

}  // namespace sinopia
