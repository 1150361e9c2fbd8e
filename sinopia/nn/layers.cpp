#include "sinopia/nn/layers.h"

#include "sinopia/nn/weight_streaming.h"
#include "sinopia/ops/embedding.h"
#include "sinopia/ops/linear.h"

namespace sinopia {
namespace {

Tensor after_use(const Tensor& weight, Tensor y) {
  if (WeightStreaming::is_on()) weight.drop_pages();
  return y;
}

}  // namespace

Linear::Linear(Scope scope, int64_t in, int64_t out, bool bias)
    : weight_(scope.parameter("weight", {out, in}, Initialiser::fan_in(in))) {
  if (bias) bias_ = scope.parameter("bias", {out}, Initialiser::fan_in(in));
}

Tensor Linear::operator()(const Tensor& x, const Tensor& add, Activation activation) const {
  return after_use(weight_, linear(x, weight_, bias_, add, activation));
}

Conv2d::Conv2d(Scope scope, int64_t in, int64_t out, int kernel)
    : Conv2d(std::move(scope), in, out, kernel, {.stride = 1, .padding = Padding::same(kernel / 2)}) {}

Conv2d::Conv2d(Scope scope, int64_t in, int64_t out, int kernel, const Conv2dOptions& options, bool bias)
    : weight_(
          scope.parameter("weight", {out, in, kernel, kernel}, Initialiser::fan_in(in * kernel * kernel))),
      options_(options) {
  if (bias) bias_ = scope.parameter("bias", {out}, Initialiser::fan_in(in * kernel * kernel));
}

Tensor Conv2d::operator()(const Tensor& x, const Tensor& add, Activation activation) const {
  return after_use(weight_, conv2d(x, weight_, bias_, options_, add, activation));
}

GroupNorm::GroupNorm(Scope scope, int64_t channels, int groups, float eps)
    : weight_(scope.parameter("weight", {channels}, Initialiser::ones())),
      bias_(scope.parameter("bias", {channels}, Initialiser::zeros())),
      groups_(groups),
      eps_(eps) {}

Tensor GroupNorm::operator()(const Tensor& x, Activation activation) const {
  return group_norm(x, groups_, weight_, bias_, eps_, activation);
}

LayerNorm::LayerNorm(Scope scope, int64_t channels, float eps)
    : weight_(scope.parameter("weight", {channels}, Initialiser::ones())),
      bias_(scope.parameter("bias", {channels}, Initialiser::zeros())),
      eps_(eps) {}

Tensor LayerNorm::operator()(const Tensor& x) const { return layer_norm(x, weight_, bias_, eps_); }

Embedding::Embedding(Scope scope, int64_t count, int64_t dim, float deviation)
    : weight_(scope.parameter("weight", {count, dim}, Initialiser::normal(deviation))) {}

Tensor Embedding::operator()(const Tensor& ids) const { return embedding(weight_, ids); }

}  // namespace sinopia
