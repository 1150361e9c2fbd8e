#include <algorithm>
#include <array>
#include <utility>

#include "sinopia/models/config_reader.h"
#include "sinopia/models/vae/autoencoder_kl.h"

namespace sinopia {
namespace {

using Row = std::pair<std::string_view, AutoencoderConfig>;

const std::array<Row, 4>& rows() {
  static const std::array<Row, 4> kRows{{
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
  }};
  return kRows;
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

AutoencoderConfig autoencoder_config_from_json(std::string_view json) {
  ConfigReader in(json, "vae config");
  in.expect("_class_name", {"AutoencoderKL"});
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
  c.latent_channels = in.integer("latent_channels", 4);
  c.channels = in.integers("block_out_channels", down.size(), 64);
  c.layers_per_block = in.integer("layers_per_block", 1);
  c.norm_num_groups = in.integer("norm_num_groups", 32);
  c.scaling_factor = in.number("scaling_factor", 0.18215);
  c.shift_factor = in.number("shift_factor", 0);
  c.use_quant_conv = in.boolean("use_quant_conv", true);
  c.use_post_quant_conv = in.boolean("use_post_quant_conv", true);
  c.mid_block_attention = in.boolean("mid_block_add_attention", true);
  c.force_upcast = in.boolean("force_upcast", true);
  in.expect("act_fn", {"silu", "swish"});
  in.expect("latents_mean");
  in.expect("latents_std");
  in.finish();
  return c;
}

std::string autoencoder_config_to_json(const AutoencoderConfig& c) {
  nlohmann::json json{
      {"_class_name", "AutoencoderKL"},
      {"act_fn", "silu"},
      {"block_out_channels", c.channels},
      {"down_block_types", std::vector<std::string>(c.channels.size(), "DownEncoderBlock2D")},
      {"force_upcast", c.force_upcast},
      {"in_channels", c.in_channels},
      {"latent_channels", c.latent_channels},
      {"layers_per_block", c.layers_per_block},
      {"mid_block_add_attention", c.mid_block_attention},
      {"norm_num_groups", c.norm_num_groups},
      {"out_channels", c.out_channels},
      {"sample_size", c.sample_size},
      {"scaling_factor", c.scaling_factor},
      {"shift_factor", nullptr},
      {"up_block_types", std::vector<std::string>(c.channels.size(), "UpDecoderBlock2D")},
      {"use_post_quant_conv", c.use_post_quant_conv},
      {"use_quant_conv", c.use_quant_conv},
  };
  if (c.shift_factor != 0) json["shift_factor"] = c.shift_factor;
  return json.dump(2) + "\n";
}

}  // namespace sinopia
