#include "sinopia/models/blocks/self_attention.h"

#include "sinopia/ops/attention.h"

namespace sinopia {

SelfAttention::SelfAttention(const Scope& scope, int64_t channels, int heads, int groups, float eps)
    : norm_(scope / "group_norm", channels, groups, eps),
      q_(scope / "to_q", channels, channels),
      k_(scope / "to_k", channels, channels),
      v_(scope / "to_v", channels, channels),
      out_(scope / "to_out" / 0, channels, channels),
      heads_(heads) {}

Tensor SelfAttention::operator()(const Tensor& x) const {
  const Shape tokens{x.dim(0), x.dim(1) * x.dim(2), x.dim(3)};
  const Tensor h = norm_(x).reshape(tokens);
  const Tensor mixed = attention(q_(h), k_(h), v_(h), {.heads = heads_});
  return out_(mixed, x.reshape(tokens)).reshape(x.shape());
}

}  // namespace sinopia
