#include "sinopia/models/discriminator/patch_discriminator.h"

#include <algorithm>

#include "sinopia/autograd/tape.h"
#include "sinopia/ops/activation.h"

namespace sinopia {

PatchDiscriminator::PatchDiscriminator(const Scope& scope, const PatchDiscriminatorConfig& config) {
  SINOPIA_CHECK(config.in_channels >= 1 && config.width >= 1 && config.layers >= 1, InvalidArgument,
                "[discriminator] expected channels, width and layers of at least 1, got {}, {} and {}",
                config.in_channels, config.width, config.layers);
  constexpr int64_t kKernel = 4;
  constexpr float kDeviation = 0.02f;  // of fresh weights
  int64_t index = 0;                   // in the reference's list of modules
  const auto add = [&](int64_t in, int64_t out, int stride, bool bias, bool norm) {
    Layer layer;
    layer.stride = stride;
    const Scope convolution = scope / "main" / index++;
    layer.weight =
        convolution.parameter("weight", {out, in, kKernel, kKernel}, Initialiser::normal(kDeviation));
    if (bias) layer.bias = convolution.parameter("bias", {out}, Initialiser::fan_in(in * kKernel * kKernel));
    if (norm) {
      const Scope batch_norm = scope / "main" / index++;
      layer.norm_weight = batch_norm.parameter("weight", {out}, Initialiser::ones());
      layer.norm_bias = batch_norm.parameter("bias", {out}, Initialiser::zeros());
    }
    ++index;  // the activation
    layers_.push_back(layer);
  };
  const auto width_at = [&](int64_t depth) {
    return config.width * std::min<int64_t>(int64_t{1} << depth, 8);
  };
  add(config.in_channels, config.width, 2, true, false);
  for (int64_t i = 1; i < config.layers; ++i) add(width_at(i - 1), width_at(i), 2, false, true);
  add(width_at(config.layers - 1), width_at(config.layers), 1, false, true);
  add(width_at(config.layers), 1, 1, true, false);
}

Tensor PatchDiscriminator::forward(const Tensor& x, std::vector<Tensor>* features) const {
  constexpr float kNormEps = 1e-5f;
  Tensor h = x;
  for (const Layer& layer : layers_) {
    h = conv2d(h, layer.weight, layer.bias, {.stride = layer.stride, .padding = Padding::same(1)});
    if (&layer == &layers_.back()) break;
    if (layer.norm_weight) h = batch_norm(h, layer.norm_weight, layer.norm_bias, kNormEps);
    h = leaky_relu(h);
    if (features) features->push_back(h);
  }
  return h;
}

PatchDiscriminator PatchDiscriminator::frozen() const {
  PatchDiscriminator result = *this;
  for (Layer& layer : result.layers_) {
    for (Tensor* parameter : {&layer.weight, &layer.bias, &layer.norm_weight, &layer.norm_bias})
      *parameter = without_gradient(*parameter);
  }
  return result;
}

}  // namespace sinopia
