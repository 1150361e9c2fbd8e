#include "sinopia/models/vae/autoencoder.h"

#include <algorithm>

#include "sinopia/autograd/tape.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/shape.h"

namespace sinopia {
namespace {

constexpr float kNormEps = 1e-6f;

ResBlock res_block(const Scope& scope, int64_t in, int64_t out, const AutoencoderConfig& config) {
  return ResBlock(scope, in, out, 0, static_cast<int>(config.norm_num_groups), kNormEps);
}

GroupNorm group_norm(const Scope& scope, int64_t channels, const AutoencoderConfig& config) {
  return GroupNorm(scope, channels, static_cast<int>(config.norm_num_groups), kNormEps);
}

SelfAttention attention_block(const Scope& scope, int64_t channels, const AutoencoderConfig& config) {
  return SelfAttention(scope, channels, 1, static_cast<int>(config.norm_num_groups), kNormEps);
}

const AutoencoderConfig& checked(const AutoencoderConfig& c) {
  SINOPIA_CHECK(!c.channels.empty() && c.channels.size() <= 8, InvalidArgument,
                "[vae] expected 1 to 8 block_out_channels, got {}", c.channels.size());
  for (int64_t level : c.attention_levels) {
    SINOPIA_CHECK(level >= 0 && level < static_cast<int64_t>(c.channels.size()), InvalidArgument,
                  "[vae] expected attention_levels below {}, got {}", c.channels.size(), level);
  }
  for (int64_t channels : c.channels) {
    SINOPIA_CHECK(c.norm_num_groups > 0 && channels > 0 && channels % c.norm_num_groups == 0, InvalidArgument,
                  "[vae] expected norm_num_groups to divide block_out_channels, got {} and {}",
                  c.norm_num_groups, channels);
  }
  SINOPIA_CHECK(
      c.layers_per_block > 0 && c.latent_channels > 0 && c.scaling_factor != 0, InvalidArgument,
      "[vae] expected layers_per_block, latent_channels and scaling_factor above 0, got {}, {} and {}",
      c.layers_per_block, c.latent_channels, c.scaling_factor);
  if (c.codebook) {
    SINOPIA_CHECK(c.codebook->entries > 0 && c.codebook->encoder_channels > 0, InvalidArgument,
                  "[vae] expected a codebook's entries and the encoder's channels above 0, got {} and {}",
                  c.codebook->entries, c.codebook->encoder_channels);
    SINOPIA_CHECK(c.use_quant_conv && c.use_post_quant_conv && c.shift_factor == 0, InvalidArgument,
                  "[vae] a codebook goes with both quant convolutions and no shift_factor");
  }
  return c;
}

/// What the convolutions around the bottleneck take and give.
struct Channels {
  int64_t encoded, moments, decoded;
};
Channels channels_of(const AutoencoderConfig& c) {
  const int64_t C = c.latent_channels;
  if (c.codebook) return {c.codebook->encoder_channels, C, c.codebook->encoder_channels};
  return {2 * C, 2 * C, C};
}

/// block(x), where training may keep its input alone. The block must outlive the backward pass.
template <class Block>
Tensor through(const Block& block, const Tensor& x, bool checkpoints) {
  if (!checkpoints) return block(x);
  return checkpointed([&block](const std::vector<Tensor>& in) { return block(in.front()); }, {x});
}

}  // namespace

bool AutoencoderConfig::has_attention(int64_t level) const {
  return std::find(attention_levels.begin(), attention_levels.end(), level) != attention_levels.end();
}

Tensor DiagonalGaussian::sample(const Tensor& noise) const {
  return certain() ? mean : mean + exp(logvar * 0.5) * noise;
}

Autoencoder::Middle::Middle(const Scope& scope, const AutoencoderConfig& config)
    : first(res_block(scope / "resnets" / 0, config.channels.back(), config.channels.back(), config)),
      second(res_block(scope / "resnets" / 1, config.channels.back(), config.channels.back(), config)) {
  if (config.mid_block_attention)
    attention.emplace(attention_block(scope / "attentions" / 0, config.channels.back(), config));
}

Tensor Autoencoder::Middle::operator()(const Tensor& x, bool checkpoints) const {
  Tensor h = through(first, x, checkpoints);
  if (attention) h = through(*attention, h, checkpoints);
  return through(second, h, checkpoints);
}

Autoencoder::Level::Level(const Scope& scope, int64_t in, int64_t level, int64_t layers,
                          const AutoencoderConfig& config) {
  const int64_t out = config.channels[static_cast<size_t>(level)];
  for (int64_t i = 0; i < layers; ++i) {
    blocks.push_back(res_block(scope / "resnets" / i, i == 0 ? in : out, out, config));
    if (config.has_attention(level))
      attentions.push_back(attention_block(scope / "attentions" / i, out, config));
  }
}

Tensor Autoencoder::Level::operator()(Tensor x, bool checkpoints) const {
  for (size_t i = 0; i < blocks.size(); ++i) {
    x = through(blocks[i], x, checkpoints);
    if (!attentions.empty()) x = through(attentions[i], x, checkpoints);
  }
  return x;
}

Autoencoder::Encoder::Encoder(const Scope& scope, const AutoencoderConfig& config)
    : conv_in(scope / "conv_in", config.in_channels, config.channels[0], 3),
      middle(scope / "mid_block", config),
      norm_out(group_norm(scope / "conv_norm_out", config.channels.back(), config)),
      conv_out(scope / "conv_out", config.channels.back(), channels_of(config).encoded, 3) {
  int64_t in = config.channels[0];
  for (size_t i = 0; i < config.channels.size(); ++i) {
    const Scope here = scope / "down_blocks" / static_cast<int64_t>(i);
    Level level(here, in, static_cast<int64_t>(i), config.layers_per_block, config);
    in = config.channels[i];
    if (i + 1 < config.channels.size())
      level.down.emplace(here / "downsamplers" / 0, in, /*pad_all_sides=*/false);
    levels.push_back(std::move(level));
  }
}

Tensor Autoencoder::Encoder::operator()(Tensor x, bool checkpoints) const {
  x = conv_in(x);
  for (const Level& level : levels) {
    x = level(std::move(x), checkpoints);
    if (level.down) x = (*level.down)(x);
  }
  return conv_out(norm_out(middle(x, checkpoints), Activation::Silu));
}

Autoencoder::Decoder::Decoder(const Scope& scope, const AutoencoderConfig& config)
    : conv_in(scope / "conv_in", channels_of(config).decoded, config.channels.back(), 3),
      middle(scope / "mid_block", config),
      norm_out(group_norm(scope / "conv_norm_out", config.channels[0], config)),
      conv_out(scope / "conv_out", config.channels[0], config.out_channels, 3) {
  int64_t in = config.channels.back();
  for (size_t i = config.channels.size(); i-- > 0;) {
    const Scope here = scope / "up_blocks" / static_cast<int64_t>(levels.size());
    Level level(here, in, static_cast<int64_t>(i), config.layers_per_block + 1, config);
    in = config.channels[i];
    if (i > 0) level.up.emplace(here / "upsamplers" / 0, in);
    levels.push_back(std::move(level));
  }
}

Tensor Autoencoder::Decoder::features(Tensor z, bool checkpoints) const {
  z = middle(conv_in(z), checkpoints);
  for (const Level& level : levels) {
    z = level(std::move(z), checkpoints);
    if (level.up) z = (*level.up)(z, 2 * z.dim(1), 2 * z.dim(2));
  }
  return norm_out(z, Activation::Silu);
}

Autoencoder::Autoencoder(const Scope& scope, const AutoencoderConfig& config)
    : config_(checked(config)),
      place_(scope),
      encoder_(scope / "encoder", config),
      decoder_(scope / "decoder", config) {
  const Channels channels = channels_of(config);
  if (config.use_quant_conv) quant_conv_.emplace(scope / "quant_conv", channels.encoded, channels.moments);
  if (config.use_post_quant_conv)
    post_quant_conv_.emplace(scope / "post_quant_conv", config.latent_channels, channels.decoded);
  if (config.codebook)
    codebook_.emplace(scope / "quantize", config.codebook->entries, config.latent_channels);
}

Tensor Autoencoder::encode_moments(const Tensor& x, const EncodeOptions& options) const {
  SINOPIA_CHECK(x.rank() == 4 && x.dim(3) == config_.in_channels, InvalidArgument,
                "[vae] expected a picture [N,H,W,{}], got {}", config_.in_channels, describe(x));
  SINOPIA_CHECK(x.dim(1) >= config_.factor() && x.dim(2) >= config_.factor(), InvalidArgument,
                "[vae] expected a picture of at least {0}x{0}, got {1}", config_.factor(), describe(x));
  const Tensor h = encoder_(place_.enter(x), options.checkpoint_activations);
  return place_.leave(quant_conv_ ? (*quant_conv_)(h) : h, x.device(), x.dtype());
}

DiagonalGaussian Autoencoder::encode(const Tensor& x, const EncodeOptions& options) const {
  return latents_of(encode_moments(x, options));
}

DiagonalGaussian Autoencoder::latents_of(const Tensor& moments) const {
  if (codebook_) return {moments, {}};
  const int64_t C = config_.latent_channels;
  return {narrow(moments, -1, 0, C), clamp(narrow(moments, -1, C, 2 * C), -30.0f, 20.0f)};
}

Tensor Autoencoder::decode(const Tensor& z, const DecodeOptions& options) const {
  return place_.leave(to_picture(decode_features(z, options)), z.device(), z.dtype());
}

Tensor Autoencoder::decode_codes(const Tensor& codes) const {
  SINOPIA_CHECK(codebook_, InvalidArgument, "[vae] expected an autoencoder with a codebook to decode codes");
  const Tensor picture = decode(codebook_->entries(codes), {.quantise = false});
  return place_.leave(picture, codes.device());
}

Tensor Autoencoder::to_picture(const Tensor& features) const { return decoder_.conv_out(features); }

Tensor Autoencoder::decode_features(const Tensor& z, const DecodeOptions& options) const {
  SINOPIA_CHECK(z.rank() == 4 && z.dim(3) == config_.latent_channels, InvalidArgument,
                "[vae] expected latents [N,h,w,{}], got {}", config_.latent_channels, describe(z));
  const Tensor there = place_.enter(z);
  const Tensor latents = codebook_ && options.quantise ? codebook_->quantise(there) : there;
  return decoder_.features(post_quant_conv_ ? (*post_quant_conv_)(latents) : latents,
                           options.checkpoint_activations);
}

Tensor Autoencoder::to_diffusion(const Tensor& z) const {
  return (config_.shift_factor == 0 ? z : z - config_.shift_factor) * config_.scaling_factor;
}

Tensor Autoencoder::from_diffusion(const Tensor& z) const {
  const Tensor scaled = z / config_.scaling_factor;
  return config_.shift_factor == 0 ? scaled : scaled + config_.shift_factor;
}

}  // namespace sinopia
