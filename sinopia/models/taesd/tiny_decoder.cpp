#include "sinopia/models/taesd/tiny_decoder.h"

#include <algorithm>

#include "sinopia/ops/activation.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/resize.h"

namespace sinopia {
namespace {

const TinyDecoderConfig& checked(const TinyDecoderConfig& c) {
  SINOPIA_CHECK(!c.blocks.empty() && c.blocks.size() <= 8, InvalidArgument,
                "[taesd] expected 1 to 8 entries of num_decoder_blocks, got {}", c.blocks.size());
  SINOPIA_CHECK(std::all_of(c.blocks.begin(), c.blocks.end(), [](int64_t n) { return n >= 0 && n <= 100; }),
                InvalidArgument, "[taesd] expected num_decoder_blocks from 0 to 100");
  SINOPIA_CHECK(c.latent_channels > 0 && c.out_channels > 0 && c.channels > 0 && c.scaling_factor != 0,
                InvalidArgument,
                "[taesd] expected channels and scaling_factor above 0, got latent {}, out {}, {} and {}",
                c.latent_channels, c.out_channels, c.channels, c.scaling_factor);
  return c;
}

}  // namespace

TinyDecoder::Block::Block(const Scope& scope, int64_t channels)
    : first(scope / "conv" / 0, channels, channels, 3),
      second(scope / "conv" / 2, channels, channels, 3),
      third(scope / "conv" / 4, channels, channels, 3) {}

Tensor TinyDecoder::Block::operator()(const Tensor& x) const {
  return third(second(first(x, {}, Activation::Relu), {}, Activation::Relu), x, Activation::Relu);
}

TinyDecoder::TinyDecoder(const Scope& scope, const TinyDecoderConfig& config)
    : config_(checked(config)),
      place_(scope),
      conv_in_(scope / "decoder" / "layers" / 0, config.latent_channels, config.channels, 3) {
  const Scope layers = scope / "decoder" / "layers";
  int64_t place = 2;  // activations and doublings count, too
  for (size_t i = 0; i < config.blocks.size(); ++i) {
    const bool last = i + 1 == config.blocks.size();
    Level level;
    for (int64_t j = 0; j < config.blocks[i]; ++j)
      level.blocks.emplace_back(layers / place++, config.channels);
    if (!last) ++place;
    level.conv = Conv2d(layers / place++, config.channels, last ? config.out_channels : config.channels, 3,
                        {.stride = 1, .padding = Padding::same(1)}, /*bias=*/last);
    levels_.push_back(std::move(level));
  }
}

Tensor TinyDecoder::decode(const Tensor& z) const {
  SINOPIA_CHECK(z.rank() == 4 && z.dim(3) == config_.latent_channels, InvalidArgument,
                "[taesd] expected latents [N,h,w,{}], got {}", config_.latent_channels, describe(z));
  Tensor x = place_.enter(z);
  if (config_.scaling_factor != 1) x = x / config_.scaling_factor;
  if (config_.shift_factor != 0) x = x + config_.shift_factor;
  x = conv_in_(tanh(x / 3.0) * 3.0, {}, Activation::Relu);
  for (size_t i = 0; i < levels_.size(); ++i) {
    for (const Block& block : levels_[i].blocks) x = block(x);
    x = levels_[i].conv(i + 1 < levels_.size() ? upsample_nearest(x, 2) : x);
  }
  return place_.leave(x * 2.0 - 1.0, z.device(), z.dtype());
}

}  // namespace sinopia
