#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "sinopia/models/config_reader.h"
#include "sinopia/models/vae/autoencoder.h"

namespace sinopia {
namespace {

using Row = std::pair<std::string_view, AutoencoderConfig>;

const std::array<Row, 7>& rows() {
  static const std::array<Row, 7> kRows{{
      {"sd", {}},
      {"sdxl", {.sample_size = 1024, .scaling_factor = 0.13025}},
      {"x4-upscaler", {.sample_size = 256, .channels = {128, 256, 512}, .scaling_factor = 0.08333}},
      {"sd3",
       {.sample_size = 1024,
        .latent_channels = 16,
        .scaling_factor = 1.5305,
        .shift_factor = 0.0609,
        .use_quant_conv = false,
        .use_post_quant_conv = false}},
      // latent-diffusion, models/first_stage_models; a model of its latents says how they are scaled.
      {"kl-f16",
       {.sample_size = 256,
        .latent_channels = 16,
        .channels = {128, 128, 256, 256, 512},
        .attention_levels = {4},
        .scaling_factor = 1}},
      {"vq-f4",
       {.sample_size = 256,
        .latent_channels = 3,
        .channels = {128, 256, 512},
        .scaling_factor = 1,
        .force_upcast = false,
        .codebook = CodebookConfig{.entries = 8192, .encoder_channels = 3}}},
      {"vq-f8",
       {.sample_size = 256,
        .latent_channels = 4,
        .channels = {128, 256, 256, 512},
        .attention_levels = {3},
        .scaling_factor = 1,
        .force_upcast = false,
        .codebook = CodebookConfig{.entries = 16384, .encoder_channels = 4}}},
  }};
  return kRows;
}

constexpr const char *kGaussian = "AutoencoderKL", *kQuantised = "VQModel";

/// A level's block in diffusers, without and with self-attention.
struct BlockNames {
  std::string_view plain, attention;
};
constexpr BlockNames kDown{"DownEncoderBlock2D", "AttnDownEncoderBlock2D"};
constexpr BlockNames kUp{"UpDecoderBlock2D", "AttnUpDecoderBlock2D"};

std::vector<std::string> down_blocks(const AutoencoderConfig& c) {
  std::vector<std::string> types;
  for (size_t i = 0; i < c.channels.size(); ++i)
    types.emplace_back(c.has_attention(static_cast<int64_t>(i)) ? kDown.attention : kDown.plain);
  return types;
}

/// The decoder's, of the lowest resolution first.
std::vector<std::string> up_blocks(const AutoencoderConfig& c) {
  std::vector<std::string> types;
  for (size_t i = c.channels.size(); i-- > 0;)
    types.emplace_back(c.has_attention(static_cast<int64_t>(i)) ? kUp.attention : kUp.plain);
  return types;
}

/// channels and attention_levels. Throws Unsupported for other blocks and for a decoder unlike its encoder.
void read_levels(ConfigReader& in, AutoencoderConfig& c) {
  const std::vector<std::string> down = in.texts("down_block_types", {std::string(kDown.plain)});
  const std::vector<std::string> up = in.texts("up_block_types", {std::string(kUp.plain)});
  c.channels = in.integers("block_out_channels", down.size(), 64);
  for (size_t i = 0; i < down.size(); ++i) {
    if (down[i] == kDown.attention) c.attention_levels.push_back(static_cast<int64_t>(i));
  }
  if (down_blocks(c) != down) in.unsupported("down_block_types");
  if (up_blocks(c) != up) in.unsupported("up_block_types");
}

void read_gaussian(ConfigReader& in, AutoencoderConfig& c) {
  c.latent_channels = in.integer("latent_channels", 4);
  c.shift_factor = in.number("shift_factor", 0);
  c.use_quant_conv = in.boolean("use_quant_conv", true);
  c.use_post_quant_conv = in.boolean("use_post_quant_conv", true);
  c.force_upcast = in.boolean("force_upcast", true);
  in.expect("latents_mean");
  in.expect("latents_std");
}

void read_codebook(ConfigReader& in, AutoencoderConfig& c) {
  c.codebook.emplace();
  c.codebook->entries = in.integer("num_vq_embeddings", 256);
  c.codebook->encoder_channels = in.integer("latent_channels", 3);
  c.latent_channels = in.integer("vq_embed_dim", c.codebook->encoder_channels);
  c.codebook->lookup_from_codebook = in.boolean("lookup_from_codebook", false);
  c.force_upcast = in.boolean("force_upcast", false);
  in.expect("norm_type", {"group"});
}

}  // namespace

const AutoencoderConfig& autoencoder_config(std::string_view name) {
  for (const Row& row : rows()) {
    if (row.first == name) return row.second;
  }
  fail(ErrorKind::NotFound, "[vae] no autoencoder '{}'; known: {}", name,
       fmt::format("{}", fmt::join(autoencoder_config_names(), ", ")));
}

std::vector<std::string_view> autoencoder_config_names() {
  std::vector<std::string_view> names;
  for (const Row& row : rows()) names.push_back(row.first);
  return names;
}

std::string autoencoder_class(const AutoencoderConfig& config) {
  return config.codebook ? kQuantised : kGaussian;
}

AutoencoderConfig autoencoder_config_from_json(std::string_view json) {
  ConfigReader in(json, "vae config");
  const std::string kind = in.text("_class_name", kGaussian);
  in.expect("_class_name", {kGaussian, kQuantised});
  AutoencoderConfig c;
  read_levels(in, c);
  c.sample_size = in.integer("sample_size", 32);
  c.in_channels = in.integer("in_channels", 3);
  c.out_channels = in.integer("out_channels", 3);
  c.layers_per_block = in.integer("layers_per_block", 1);
  c.norm_num_groups = in.integer("norm_num_groups", 32);
  c.scaling_factor = in.number("scaling_factor", 0.18215);
  c.mid_block_attention = in.boolean("mid_block_add_attention", true);
  in.expect("act_fn", {"silu", "swish"});
  kind == kQuantised ? read_codebook(in, c) : read_gaussian(in, c);
  in.finish();
  return c;
}

std::string autoencoder_config_to_json(const AutoencoderConfig& c) {
  nlohmann::json json{
      {"_class_name", autoencoder_class(c)},    {"act_fn", "silu"},
      {"block_out_channels", c.channels},       {"down_block_types", down_blocks(c)},
      {"force_upcast", c.force_upcast},         {"in_channels", c.in_channels},
      {"layers_per_block", c.layers_per_block}, {"mid_block_add_attention", c.mid_block_attention},
      {"norm_num_groups", c.norm_num_groups},   {"out_channels", c.out_channels},
      {"sample_size", c.sample_size},           {"scaling_factor", c.scaling_factor},
      {"up_block_types", up_blocks(c)},
  };
  if (c.codebook) {
    json["latent_channels"] = c.codebook->encoder_channels;
    json["lookup_from_codebook"] = c.codebook->lookup_from_codebook;
    json["norm_type"] = "group";
    json["num_vq_embeddings"] = c.codebook->entries;
    json["vq_embed_dim"] = c.latent_channels;
  } else {
    json["latent_channels"] = c.latent_channels;
    json["shift_factor"] = c.shift_factor == 0 ? nlohmann::json() : nlohmann::json(c.shift_factor);
    json["use_post_quant_conv"] = c.use_post_quant_conv;
    json["use_quant_conv"] = c.use_quant_conv;
  }
  return json.dump(2) + "\n";
}

}  // namespace sinopia
