#include "sinopia/models/vae/keys.h"

#include <algorithm>

#include "sinopia/base/error.h"

namespace sinopia {
namespace {

constexpr const char* kResidual[] = {"norm1", "conv1", "norm2", "conv2"};

void add_residual(NameMap& names, const std::string& original, const std::string& ours) {
  for (const char* part : kResidual) names.add(original + "." + part, ours + "." + part);
  names.add(original + ".nin_shortcut", ours + ".conv_shortcut");
}

void add_attention(NameMap& names, const std::string& original, const std::string& ours) {
  names.add(original + ".norm", ours + ".group_norm");
  names.add(original + ".q", ours + ".to_q");
  names.add(original + ".k", ours + ".to_k");
  names.add(original + ".v", ours + ".to_v");
  names.add(original + ".proj_out", ours + ".to_out.0");
}

void add_middle(NameMap& names, const std::string& side) {
  add_residual(names, side + "mid.block_1", side + "mid_block.resnets.0");
  add_residual(names, side + "mid.block_2", side + "mid_block.resnets.1");
  add_attention(names, side + "mid.attn_1", side + "mid_block.attentions.0");
}

bool is_attention_weight(const std::string& ours, const Tensor& x) {
  return ours.find(".attentions.") != std::string::npos && ours.find(".to_") != std::string::npos &&
         ours.ends_with(".weight") && x.rank() >= 2;
}

const Tensor& need(const TensorMap& tensors, const std::string& name) {
  const auto found = tensors.find(name);
  SINOPIA_CHECK(found != tensors.end() && found->second.rank() > 0, Corrupt,
                "[checkpoint] the autoencoder lacks '{}'", name);
  return found->second;
}

int64_t count(const TensorMap& tensors, const std::string& before, const std::string& after) {
  int64_t n = 0;
  while (tensors.contains(before + std::to_string(n) + after)) ++n;
  return n;
}

}  // namespace

NameMap autoencoder_names(const AutoencoderConfig& config) {
  NameMap names;
  names.add("quant_conv", "quant_conv");
  names.add("post_quant_conv", "post_quant_conv");
  names.add("quantize.embedding", "quantize.embedding");
  const int64_t levels = static_cast<int64_t>(config.channels.size());
  for (const std::string side : {"encoder.", "decoder."}) {
    names.add(side + "conv_in", side + "conv_in");
    names.add(side + "norm_out", side + "conv_norm_out");
    names.add(side + "conv_out", side + "conv_out");
    add_middle(names, side);
  }
  for (int64_t i = 0; i < levels; ++i) {
    const std::string down = "encoder.down." + std::to_string(i);
    const std::string our_down = "encoder.down_blocks." + std::to_string(i);
    const std::string up = "decoder.up." + std::to_string(i);
    const std::string our_up = "decoder.up_blocks." + std::to_string(levels - 1 - i);
    for (int64_t j = 0; j <= config.layers_per_block; ++j) {
      const std::string layer = std::to_string(j);
      if (j < config.layers_per_block) {
        add_residual(names, down + ".block." + layer, our_down + ".resnets." + layer);
        add_attention(names, down + ".attn." + layer, our_down + ".attentions." + layer);
      }
      add_residual(names, up + ".block." + layer, our_up + ".resnets." + layer);
      add_attention(names, up + ".attn." + layer, our_up + ".attentions." + layer);
    }
    names.add(down + ".downsample", our_down + ".downsamplers.0");
    names.add(up + ".upsample", our_up + ".upsamplers.0");
  }
  return names;
}

TensorMap autoencoder_from_original(const TensorMap& tensors, const AutoencoderConfig& config) {
  const NameMap names = autoencoder_names(config);
  TensorMap result;
  for (const auto& [key, x] : tensors) {
    const std::optional<std::string> ours = names.to_ours(key);
    SINOPIA_CHECK(ours, Corrupt, "[checkpoint] the autoencoder has no place for '{}'", key);
    const bool matrix = is_attention_weight(*ours, x);
    SINOPIA_CHECK(!matrix || x.numel() == x.dim(0) * x.dim(1), Corrupt,
                  "[checkpoint] expected a 1x1 convolution in '{}', got {}", key, describe(x));
    result[*ours] = matrix ? x.reshape({x.dim(0), x.dim(1)}) : x;
  }
  return result;
}

TensorMap autoencoder_to_original(const TensorMap& tensors, const AutoencoderConfig& config) {
  const NameMap names = autoencoder_names(config);
  TensorMap result;
  for (const auto& [key, x] : tensors) {
    const std::optional<std::string> original = names.to_original(key);
    SINOPIA_CHECK(original, Corrupt, "[checkpoint] the autoencoder has no place for '{}'", key);
    result[*original] = is_attention_weight(key, x) ? x.reshape({x.dim(0), x.dim(1), 1, 1}) : x;
  }
  return result;
}

TensorMap autoencoder_with_file_shapes(const TensorMap& tensors) {
  TensorMap result;
  for (const auto& [key, x] : tensors) {
    const bool convolution = key.ends_with("quant_conv.weight") || key.ends_with(".conv_shortcut.weight");
    result[key] = convolution && x.rank() == 2 ? x.reshape({x.dim(0), x.dim(1), 1, 1}) : x;
  }
  return result;
}

AutoencoderConfig autoencoder_config_from_tensors(const TensorMap& tensors) {
  const bool original = tensors.contains("encoder.down.0.block.0.norm1.weight");
  const std::string down = original ? "encoder.down." : "encoder.down_blocks.";
  const std::string layer = original ? ".block." : ".resnets.";
  const std::string attention = original ? ".attn.0.norm.weight" : ".attentions.0.group_norm.weight";
  AutoencoderConfig c;
  const int64_t levels = count(tensors, down, layer + "0.norm1.weight");
  SINOPIA_CHECK(levels > 0, Corrupt, "[checkpoint] the autoencoder has no down blocks");
  c.channels.clear();
  for (int64_t i = 0; i < levels; ++i) {
    const std::string level = down + std::to_string(i);
    c.channels.push_back(need(tensors, level + layer + "0.conv2.weight").dim(0));
    if (tensors.contains(level + attention)) c.attention_levels.push_back(i);
  }
  c.layers_per_block = count(tensors, down + "0" + layer, ".norm1.weight");
  const Tensor& conv_in = need(tensors, "encoder.conv_in.weight");
  const Tensor& decoder_in = need(tensors, "decoder.conv_in.weight");
  SINOPIA_CHECK(conv_in.rank() == 4 && decoder_in.rank() == 4, Corrupt,
                "[checkpoint] expected 2D convolutions in the autoencoder, got {}", describe(conv_in));
  c.in_channels = conv_in.dim(1);
  c.out_channels = need(tensors, "decoder.conv_out.weight").dim(0);
  c.latent_channels = decoder_in.dim(1);
  if (tensors.contains("quantize.embedding.weight")) {
    const Tensor& table = need(tensors, "quantize.embedding.weight");
    SINOPIA_CHECK(table.rank() == 2, Corrupt, "[checkpoint] expected a codebook's table of rows, got {}",
                  describe(table));
    c.codebook = CodebookConfig{.entries = table.dim(0), .encoder_channels = decoder_in.dim(1)};
    c.latent_channels = table.dim(1);
    c.force_upcast = false;
  }
  c.use_quant_conv = tensors.contains("quant_conv.weight");
  c.use_post_quant_conv = tensors.contains("post_quant_conv.weight");
  c.mid_block_attention = tensors.contains("encoder.mid.attn_1.norm.weight") ||
                          tensors.contains("encoder.mid_block.attentions.0.group_norm.weight");
  return c;
}

TensorMap with_current_attention_names(const TensorMap& tensors) {
  constexpr std::pair<const char*, const char*> kNames[] = {
      {"query", "to_q"}, {"key", "to_k"}, {"value", "to_v"}, {"proj_attn", "to_out.0"}};
  TensorMap result;
  for (const auto& [key, x] : tensors) {
    std::string name = key;
    const size_t kind = key.rfind('.');
    const size_t module =
        kind == std::string::npos || kind == 0 ? std::string::npos : key.rfind('.', kind - 1);
    if (module != std::string::npos && key.find(".attentions.") != std::string::npos) {
      const std::string last = key.substr(module + 1, kind - module - 1);
      for (const auto& [old, current] : kNames) {
        if (last == old) name = key.substr(0, module + 1) + current + key.substr(kind);
      }
    }
    SINOPIA_CHECK(result.emplace(name, x).second, Corrupt, "[checkpoint] '{}' is there twice", name);
  }
  return result;
}

}  // namespace sinopia
