#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sinopia {

/// What follows each residual block of a level, or stands between the two of the middle.
enum class UNetAttention { None, Self, Cross };
enum class UNetMiddle { Absent, Residual, Self, Cross };
/// What is added to the time embedding: a row of a table, the sinusoids of a number, or a projected vector.
enum class UNetClassEmbedding { None, Table, Timestep, Projection };
enum class UNetAddition { None, TextTime };

/// A UNet as diffusers' UNet2DConditionModel or UNet2DModel describes it. Vectors have one entry a level,
/// full resolution first.
struct UNetConfig {
  int64_t sample_size = 64;  ///< latent cells of the pictures it was trained on
  int64_t in_channels = 4, out_channels = 4;
  int64_t semantic_classes =
      0;  ///< of the input channels: the last ones, one for each class of a semantic map
  bool center_input_sample = false;
  bool flip_sin_to_cos = true;
  float freq_shift = 0;
  std::vector<int64_t> channels = {320, 640, 1280, 1280};
  std::vector<UNetAttention> attention = {UNetAttention::Cross, UNetAttention::Cross, UNetAttention::Cross,
                                          UNetAttention::None};
  UNetMiddle middle = UNetMiddle::Cross;
  std::vector<int64_t> layers = {2, 2, 2, 2};              ///< residual blocks on the way down
  std::vector<int64_t> heads = {8, 8, 8, 8};               ///< the last one is the middle's too
  std::vector<int64_t> transformer_layers = {1, 1, 1, 1};  ///< the last one is the middle's too
  std::vector<bool> only_cross_attention = {false, false, false, false};
  int64_t cross_attention_dim = 768;   ///< 0: transformers without cross-attention
  bool use_linear_projection = false;  ///< how proj_in and proj_out are stored, not what they do
  bool pad_all_sides = true;  ///< of the downsampling convolutions; diffusers' downsample_padding 1, else 0
  int64_t norm_num_groups = 32;
  float norm_eps = 1e-5f;
  UNetClassEmbedding class_embedding = UNetClassEmbedding::None;
  int64_t num_class_embeds = 0;
  UNetAddition addition = UNetAddition::None;
  int64_t addition_time_embed_dim = 0;
  int64_t projection_input_dim = 0;  ///< of a projected class vector, or of the addition
  int64_t time_cond_proj_dim = 0;    ///< width of an embedding added before the time MLP (LCM); 0 without
  bool upcast_attention = false;     ///< kept for writing; sums are f32 in any case

  int64_t time_dim() const { return channels.at(0) * 4; }
  int64_t levels() const { return static_cast<int64_t>(channels.size()); }
  bool takes_text() const;
  /// Feature maps that the way down hands to the way up, the first convolution's among them.
  int64_t skips() const;
  /// The finest level whose transformers attend among their own tokens; levels() if none does.
  int64_t finest_self_attention() const;

  friend bool operator==(const UNetConfig&, const UNetConfig&) = default;
};

/// Throws InvalidArgument naming the field if the vectors' lengths or the sizes do not fit together.
void check(const UNetConfig& config);

/// A configuration by name: "sd1", "sd1-inpaint", "sd2", "sd2-inpaint", "x4-upscaler", "sdxl",
/// "sdxl-refiner", "ldm-text2img-large". Throws NotFound naming the known ones.
const UNetConfig& unet_config(std::string_view name);
std::vector<std::string_view> unet_config_names();

/// From and to diffusers' config.json text. Throws Corrupt for broken JSON, Unsupported naming a field whose
/// value the model does not have.
UNetConfig unet_config_from_json(std::string_view text);
std::string unet_config_to_json(const UNetConfig& config);

}  // namespace sinopia
