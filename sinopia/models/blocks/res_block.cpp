#include "sinopia/models/blocks/res_block.h"

#include "sinopia/ops/resize.h"

namespace sinopia {

ResBlock::ResBlock(const Scope& scope, int64_t in, int64_t out, int64_t time_dim, int groups, float eps)
    : norm1_(scope / "norm1", in, groups, eps),
      conv1_(scope / "conv1", in, out, 3),
      norm2_(scope / "norm2", out, groups, eps),
      conv2_(scope / "conv2", out, out, 3) {
  if (time_dim > 0) time_.emplace(scope / "time_emb_proj", time_dim, out);
  if (in != out) shortcut_.emplace(scope / "conv_shortcut", in, out);
}

Tensor ResBlock::operator()(const Tensor& x, const Tensor& time) const {
  Tensor h = conv1_(norm1_(x, Activation::Silu), time_ ? (*time_)(time) : Tensor());
  return conv2_(norm2_(h, Activation::Silu), shortcut_ ? (*shortcut_)(x) : x);
}

Downsample::Downsample(const Scope& scope, int64_t channels, bool pad_all_sides)
    : conv_(scope / "conv", channels, channels, 3,
            {.stride = 2, .padding = pad_all_sides ? Padding::same(1) : Padding{0, 0, 1, 1}}) {}

Upsample::Upsample(const Scope& scope, int64_t channels) : conv_(scope / "conv", channels, channels, 3) {}

Tensor Upsample::operator()(const Tensor& x, int64_t height, int64_t width) const {
  const bool doubles = height == 2 * x.dim(1) && width == 2 * x.dim(2);
  return conv_(doubles ? upsample_nearest(x, 2) : resize(x, height, width, ResizeFilter::Nearest));
}

}  // namespace sinopia
