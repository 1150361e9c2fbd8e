#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "sinopia/nn/layers.h"
#include "sinopia/nn/placement.h"

namespace sinopia {

/// The decoder of a tiny autoencoder (madebyollin/taesd); fields as in diffusers' AutoencoderTiny. Defaults
/// are those of Stable Diffusion 1 and 2, and of SDXL.
struct TinyDecoderConfig {
  int64_t latent_channels = 4, out_channels = 3;
  int64_t channels = 64;
  std::vector<int64_t> blocks = {3, 3, 3, 1};  ///< residual blocks of each level, latent resolution first
  double scaling_factor = 1;
  double shift_factor = 0;

  /// Pixels a latent cell stands for, along each side.
  int64_t factor() const { return int64_t{1} << (blocks.size() - 1); }

  friend bool operator==(const TinyDecoderConfig&, const TinyDecoderConfig&) = default;
};

/// From the text of an AutoencoderTiny's config.json. Throws Corrupt for broken JSON, Unsupported naming a
/// field whose value the decoder does not have.
TinyDecoderConfig tiny_decoder_config_from_json(std::string_view text);

/// From latents to a rough picture in a few dozen narrow convolutions. Parameters have diffusers' names.
/// Reference: diffusers models/autoencoders/vae.py DecoderTiny.
class TinyDecoder {
 public:
  /// Throws InvalidArgument for a configuration that is out of range, and what the scope throws.
  TinyDecoder(const Scope& scope, const TinyDecoderConfig& config);

  /// z [N,h,w,latent_channels] as diffusion works on it -> [N,h*f,w*f,out_channels], about [-1,1], not
  /// limited.
  Tensor decode(const Tensor& z) const;

  const TinyDecoderConfig& config() const { return config_; }
  Device device() const { return place_.device(); }

 private:
  struct Block {
    Conv2d first, second, third;
    Block(const Scope& scope, int64_t channels);
    Tensor operator()(const Tensor& x) const;
  };
  struct Level {
    std::vector<Block> blocks;
    Conv2d conv;  // after doubling, but for the last level
  };

  TinyDecoderConfig config_;
  Place place_;
  Conv2d conv_in_;
  std::vector<Level> levels_;
};

}  // namespace sinopia
