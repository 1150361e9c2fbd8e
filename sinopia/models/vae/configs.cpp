#include <algorithm>
#include <array>
#include <utility>

#include "sinopia/models/config_reader.h"
#include "sinopia/models/vae/autoencoder.h"

namespace sinopia {
namespace {

using Row = std::pair<std::string_view, AutoencoderConfig>;

const std::array<Row, 5>& rows() {
  static const std::array<Row, 5> kRows{{
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
      // latent-diffusion, models/first_stage_models/vq-f4; its latents are diffused as they are.
      {"vq-f4",
       {.sample_size = 256,
        .latent_channels = 3,
        .channels = {128, 256, 512},
        .scaling_factor = 1,
        .force_upcast = false,
        .codebook = CodebookConfig{.entries = 8192, .encoder_channels = 3}}},
  }};
  return kRows;
}

constexpr const char *kGaussian = "AutoencoderKL", *kQuantised = "VQModel";

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
  const std::vector<std::string> down = in.texts("down_block_types", {"DownEncoderBlock2D"});
  const std::vector<std::string> up = in.texts("up_block_types", {"UpDecoderBlock2D"});
  const auto all = [](const std::vector<std::string>& names, const char* name) {
    return std::all_of(names.begin(), names.end(), [&](const std::string& n) { return n == name; });
  };
  if (!all(down, "DownEncoderBlock2D")) in.unsupported("down_block_types");
  if (!all(up, "UpDecoderBlock2D") || up.size() != down.size()) in.unsupported("up_block_types");
  c.sample_size = in.integer("sample_size", 32);
  c.in_channels = in.integer("in_channels", 3);
  c.out_channels = in.integer("out_channels", 3);
  c.channels = in.integers("block_out_channels", down.size(), 64);
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
      {"_class_name", autoencoder_class(c)},
      {"act_fn", "silu"},
      {"block_out_channels", c.channels},
      {"down_block_types", std::vector<std::string>(c.channels.size(), "DownEncoderBlock2D")},
      {"force_upcast", c.force_upcast},
      {"in_channels", c.in_channels},
      {"layers_per_block", c.layers_per_block},
      {"mid_block_add_attention", c.mid_block_attention},
      {"norm_num_groups", c.norm_num_groups},
      {"out_channels", c.out_channels},
      {"sample_size", c.sample_size},
      {"scaling_factor", c.scaling_factor},
      {"up_block_types", std::vector<std::string>(c.channels.size(), "UpDecoderBlock2D")},
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
