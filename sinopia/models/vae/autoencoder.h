#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sinopia/models/blocks/res_block.h"
#include "sinopia/models/blocks/self_attention.h"
#include "sinopia/models/vae/codebook.h"
#include "sinopia/nn/placement.h"

namespace sinopia {

/// Latents that are decoded as entries of a codebook: what diffusers' VQModel has of its own.
struct CodebookConfig {
  int64_t entries = 256;  ///< num_vq_embeddings
  /// That the encoder gives and the decoder takes, on the far sides of the quant convolutions. diffusers
  /// calls these latent_channels, and those of entries and so of latents vq_embed_dim.
  int64_t encoder_channels = 3;
  bool lookup_from_codebook = false;  ///< kept for writing; Autoencoder::decode_codes takes codes in any case

  friend bool operator==(const CodebookConfig&, const CodebookConfig&) = default;
};

/// The first stage of latent diffusion; fields as in diffusers' AutoencoderKL.
struct AutoencoderConfig {
  int64_t sample_size = 512;  ///< pixels of the pictures it was trained on
  int64_t in_channels = 3, out_channels = 3;
  int64_t latent_channels = 4;                           ///< of what is diffused
  std::vector<int64_t> channels = {128, 256, 512, 512};  ///< one entry a level, full resolution first
  int64_t layers_per_block = 2;
  /// Indices into channels, rising: levels each of whose layers ends in self-attention. Original files
  /// say attn_resolutions.
  std::vector<int64_t> attention_levels = {};
  int64_t norm_num_groups = 32;
  double scaling_factor = 0.18215;
  double shift_factor = 0;
  bool use_quant_conv = true, use_post_quant_conv = true;
  bool mid_block_attention = true;
  bool force_upcast = true;                     ///< kept for writing; sums are f32 in any case
  std::optional<CodebookConfig> codebook = {};  ///< absent: latents have a distribution (AutoencoderKL)

  /// Pixels a latent cell stands for, along each side.
  int64_t factor() const { return int64_t{1} << (channels.size() - 1); }
  bool has_attention(int64_t level) const;

  friend bool operator==(const AutoencoderConfig&, const AutoencoderConfig&) = default;
};

/// A configuration by name: "sd", "sdxl", "x4-upscaler", "sd3", and latent-diffusion's "kl-f16", "vq-f4",
/// "vq-f8". Throws NotFound naming the known ones.
const AutoencoderConfig& autoencoder_config(std::string_view name);
std::vector<std::string_view> autoencoder_config_names();
/// The name of diffusers' class for it: "AutoencoderKL" or "VQModel".
std::string autoencoder_class(const AutoencoderConfig& config);

/// From and to diffusers' config.json text. Throws Corrupt for broken JSON, Unsupported naming a field whose
/// value the model does not have.
AutoencoderConfig autoencoder_config_from_json(std::string_view text);
std::string autoencoder_config_to_json(const AutoencoderConfig& config);

/// What the encoder says about a latent: independent normal elements, or just which they are.
struct DiagonalGaussian {
  Tensor mean;    ///< [N,h,w,C]
  Tensor logvar;  ///< limited to [-30,20]; absent where the mean is all there is

  bool certain() const { return !logvar.defined(); }
  /// mean + exp(logvar / 2) * noise; noise N(0,1), shaped as the mean, not looked at if certain().
  Tensor sample(const Tensor& noise) const;
};

struct EncodeOptions {
  bool checkpoint_activations = false;  ///< as UNetShortcuts has it, block by block
};
struct DecodeOptions {
  /// Whether the nearest entries of a codebook take the latents' places; no is what diffusers calls
  /// force_not_quantize.
  bool quantise = true;
  bool checkpoint_activations = false;  ///< as of EncodeOptions
};

/// Encoder and decoder of Rombach et al. 2022, 3.1, around either bottleneck. Parameters have diffusers'
/// names. Results of encode() and decode() lie where their inputs do. Reference: diffusers
/// models/autoencoders/autoencoder_kl.py, vq_model.py and vae.py.
class Autoencoder {
 public:
  Autoencoder(const Scope& scope, const AutoencoderConfig& config);

  /// x [N,H,W,in_channels] in [-1,1] -> latents [N,H/f,W/f,C] as they are, not scaled for diffusion; with a
  /// codebook certain, and not yet quantised. Throws InvalidArgument for a picture smaller than one latent
  /// cell.
  DiagonalGaussian encode(const Tensor& x, const EncodeOptions& options = {}) const;
  /// encode() in two parts: mean and unlimited logvar along the channels [N,H/f,W/f,2C], or latents alone.
  Tensor encode_moments(const Tensor& x, const EncodeOptions& options = {}) const;
  DiagonalGaussian latents_of(const Tensor& moments) const;
  /// z [N,h,w,C] -> [N,h*f,w*f,out_channels], about [-1,1], not limited.
  Tensor decode(const Tensor& z, const DecodeOptions& options = {}) const;
  /// codes i32 [N,h,w] of the codebook -> as decode. Throws InvalidArgument without one.
  Tensor decode_codes(const Tensor& codes) const;
  /// decode() in two parts, of which the second is the last convolution, 3x3 of stride 1: training looks at
  /// what lies between them, in the network's place and type.
  Tensor decode_features(const Tensor& z, const DecodeOptions& options = {}) const;
  Tensor to_picture(const Tensor& features) const;
  /// Null where latents have a distribution.
  const Codebook* codebook() const { return codebook_ ? &*codebook_ : nullptr; }

  /// From the encoder's latents to those that diffusion works on: (z - shift) * scale; and back.
  Tensor to_diffusion(const Tensor& z) const;
  Tensor from_diffusion(const Tensor& z) const;

  const AutoencoderConfig& config() const { return config_; }
  Device device() const { return place_.device(); }

 private:
  struct Level {
    std::vector<ResBlock> blocks;
    std::vector<SelfAttention> attentions;  // one after each block, or none
    std::optional<Downsample> down;
    std::optional<Upsample> up;
    Level(const Scope& scope, int64_t in, int64_t level, int64_t layers, const AutoencoderConfig& config);
    /// The blocks alone.
    Tensor operator()(Tensor x, bool checkpoints) const;
  };
  struct Middle {
    ResBlock first;
    std::optional<SelfAttention> attention;
    ResBlock second;
    Middle(const Scope& scope, const AutoencoderConfig& config);
    Tensor operator()(const Tensor& x, bool checkpoints) const;
  };
  struct Encoder {
    Conv2d conv_in;
    std::vector<Level> levels;
    Middle middle;
    GroupNorm norm_out;
    Conv2d conv_out;
    Encoder(const Scope& scope, const AutoencoderConfig& config);
    Tensor operator()(Tensor x, bool checkpoints) const;
  };
  struct Decoder {
    Conv2d conv_in;
    Middle middle;
    std::vector<Level> levels;
    GroupNorm norm_out;
    Conv2d conv_out;
    Decoder(const Scope& scope, const AutoencoderConfig& config);
    /// All but the last convolution.
    Tensor features(Tensor z, bool checkpoints) const;
  };

  AutoencoderConfig config_;
  Place place_;
  Encoder encoder_;
  Decoder decoder_;
  std::optional<Linear> quant_conv_, post_quant_conv_;
  std::optional<Codebook> codebook_;
};

}  // namespace sinopia
