#include "sinopia/models/unet/keys.h"

#include <functional>

#include "sinopia/base/error.h"

namespace sinopia {
namespace {

constexpr std::pair<const char*, const char*> kResidual[] = {
    {"in_layers.0", "norm1"},  {"in_layers.2", "conv1"},  {"emb_layers.1", "time_emb_proj"},
    {"out_layers.0", "norm2"}, {"out_layers.3", "conv2"}, {"skip_connection", "conv_shortcut"}};

void add_residual(NameMap& names, const std::string& original, const std::string& ours) {
  for (const auto& [theirs, mine] : kResidual) names.add(original + "." + theirs, ours + "." + mine);
}

const Tensor& need(const TensorMap& tensors, const std::string& name) {
  const auto found = tensors.find(name);
  SINOPIA_CHECK(found != tensors.end(), Corrupt, "[checkpoint] the UNet lacks '{}'", name);
  return found->second;
}

const Tensor* find(const TensorMap& tensors, const std::string& name) {
  const auto found = tensors.find(name);
  return found == tensors.end() ? nullptr : &found->second;
}

bool has_module(const TensorMap& tensors, const std::string& module) {
  const auto found = tensors.lower_bound(module + ".");
  return found != tensors.end() && found->first.starts_with(module + ".");
}

int64_t count_modules(const TensorMap& tensors, const std::string& path) {
  int64_t count = 0;
  while (has_module(tensors, path + "." + std::to_string(count))) ++count;
  return count;
}

int64_t extent(const Tensor& x, int axis) {
  SINOPIA_CHECK(x.rank() > axis, Corrupt, "[checkpoint] the UNet has a weight with too few axes: {}",
                describe(x));
  return x.dim(axis);
}

/// Where the parts of a level are in one of the two layouts.
struct Layout {
  std::string conv_in, conv_out, middle_attention, middle_second;
  std::string label_table, label_projection, time_condition;
  const char* out_conv;
  std::function<std::string(int64_t level, int64_t layer)> residual, attention;
};

/// Fills the fields of one transformer: its depth and what it attends to.
void read_transformer(const TensorMap& tensors, const std::string& path, UNetConfig& config, size_t level,
                      bool middle) {
  SINOPIA_CHECK(has_module(tensors, path + ".transformer_blocks"), Unsupported,
                "[checkpoint] '{}' is attention without a transformer; convert the model with diffusers",
                path);
  config.transformer_layers[level] = count_modules(tensors, path + ".transformer_blocks");
  config.use_linear_projection = need(tensors, path + ".proj_in.weight").rank() == 2;
  const std::string block = path + ".transformer_blocks.0.";
  const Tensor* text = find(tensors, block + "attn2.to_k.weight");
  config.cross_attention_dim = text ? extent(*text, 1) : 0;
  const int64_t own = extent(need(tensors, block + "attn1.to_k.weight"), 1);
  if (!middle) config.only_cross_attention[level] = own != config.channels[level];
}

UNetConfig read_config(const TensorMap& tensors, const Layout& at, const std::vector<int64_t>& layers) {
  const size_t levels = layers.size();
  UNetConfig c;
  c.in_channels = extent(need(tensors, at.conv_in + ".weight"), 1);
  c.out_channels = extent(need(tensors, at.conv_out + ".weight"), 0);
  c.layers = layers;
  c.channels.assign(levels, 0);
  c.attention.assign(levels, UNetAttention::None);
  c.heads.assign(levels, 1);
  c.transformer_layers.assign(levels, 1);
  c.only_cross_attention.assign(levels, false);
  c.middle = UNetMiddle::Absent;
  for (size_t i = 0; i < levels; ++i) {
    const int64_t level = static_cast<int64_t>(i);
    c.channels[i] = extent(need(tensors, at.residual(level, 0) + "." + at.out_conv + ".weight"), 0);
    if (has_module(tensors, at.attention(level, 0))) {
      c.attention[i] = UNetAttention::Cross;
      read_transformer(tensors, at.attention(level, 0), c, i, false);
    }
  }
  if (has_module(tensors, at.middle_attention)) {
    c.middle = UNetMiddle::Cross;
    const std::vector<int64_t> depths = c.transformer_layers;
    read_transformer(tensors, at.middle_attention, c, levels - 1, true);
    SINOPIA_CHECK(c.attention.back() == UNetAttention::None || c.transformer_layers.back() == depths.back(),
                  Unsupported, "[checkpoint] a middle of {} transformer blocks under a level of {}",
                  c.transformer_layers.back(), depths.back());
  } else if (has_module(tensors, at.middle_second)) {
    fail(ErrorKind::Unsupported, "[checkpoint] a UNet with two middle blocks and no attention between them");
  }
  if (const Tensor* table = find(tensors, at.label_table + ".weight")) {
    c.class_embedding = UNetClassEmbedding::Table;
    c.num_class_embeds = extent(*table, 0);
  }
  if (const Tensor* projection = find(tensors, at.label_projection + ".weight")) {
    c.class_embedding = UNetClassEmbedding::Projection;
    c.projection_input_dim = extent(*projection, 1);
  }
  if (const Tensor* condition = find(tensors, at.time_condition + ".weight")) {
    c.time_cond_proj_dim = extent(*condition, 1);
  }
  return c;
}

}  // namespace

NameMap unet_names(const UNetConfig& config) {
  check(config);
  NameMap names;
  names.add("time_embed.0", "time_embedding.linear_1");
  names.add("time_embed.2", "time_embedding.linear_2");
  names.add("input_blocks.0.0", "conv_in");
  names.add("out.0", "conv_norm_out");
  names.add("out.2", "conv_out");
  if (config.time_cond_proj_dim > 0) names.add("time_embed.cond_proj", "time_embedding.cond_proj");
  if (config.class_embedding == UNetClassEmbedding::Table) names.add("label_emb", "class_embedding");
  const char* vector = config.addition == UNetAddition::TextTime                  ? "add_embedding"
                       : config.class_embedding == UNetClassEmbedding::Projection ? "class_embedding"
                                                                                  : nullptr;
  if (vector) {
    names.add("label_emb.0.0", std::string(vector) + ".linear_1");
    names.add("label_emb.0.2", std::string(vector) + ".linear_2");
  }

  const int64_t levels = config.levels();
  int64_t index = 1;
  for (int64_t i = 0; i < levels; ++i) {
    const std::string ours = "down_blocks." + std::to_string(i);
    for (int64_t j = 0; j < config.layers[static_cast<size_t>(i)]; ++j, ++index) {
      const std::string original = "input_blocks." + std::to_string(index);
      add_residual(names, original + ".0", ours + ".resnets." + std::to_string(j));
      names.add(original + ".1", ours + ".attentions." + std::to_string(j));
    }
    if (i + 1 < levels) {
      names.add("input_blocks." + std::to_string(index++) + ".0.op", ours + ".downsamplers.0.conv");
    }
  }
  add_residual(names, "middle_block.0", "mid_block.resnets.0");
  names.add("middle_block.1", "mid_block.attentions.0");
  add_residual(names, "middle_block.2", "mid_block.resnets.1");
  index = 0;
  for (int64_t i = levels; i-- > 0;) {
    const std::string ours = "up_blocks." + std::to_string(levels - 1 - i);
    const size_t level = static_cast<size_t>(i);
    std::string original;
    for (int64_t j = 0; j <= config.layers[level]; ++j, ++index) {
      original = "output_blocks." + std::to_string(index);
      add_residual(names, original + ".0", ours + ".resnets." + std::to_string(j));
      if (config.attention[level] != UNetAttention::None) {
        names.add(original + ".1", ours + ".attentions." + std::to_string(j));
      }
    }
    if (i > 0) {
      const bool attends = config.attention[level] != UNetAttention::None;
      names.add(original + (attends ? ".2.conv" : ".1.conv"), ours + ".upsamplers.0.conv");
    }
  }
  return names;
}

UNetConfig unet_config_from_original(const TensorMap& tensors) {
  const int64_t blocks = count_modules(tensors, "input_blocks");
  std::vector<int64_t> layers, first;
  int64_t begin = 1;
  for (int64_t i = 1; i <= blocks; ++i) {
    const bool down = i < blocks && has_module(tensors, "input_blocks." + std::to_string(i) + ".0.op");
    if (!down && i < blocks) continue;
    SINOPIA_CHECK(i > begin, Corrupt, "[checkpoint] the UNet has a level without residual blocks");
    layers.push_back(i - begin);
    first.push_back(begin);
    begin = i + 1;
  }
  SINOPIA_CHECK(!layers.empty(), Corrupt, "[checkpoint] the UNet has no input blocks");
  const auto block = [first](int64_t level, int64_t layer, const char* part) {
    return "input_blocks." + std::to_string(first[static_cast<size_t>(level)] + layer) + part;
  };
  const Layout at{.conv_in = "input_blocks.0.0",
                  .conv_out = "out.2",
                  .middle_attention = "middle_block.1",
                  .middle_second = "middle_block.2",
                  .label_table = "label_emb",
                  .label_projection = "label_emb.0.0",
                  .time_condition = "time_embed.cond_proj",
                  .out_conv = "out_layers.3",
                  .residual = [block](int64_t level, int64_t layer) { return block(level, layer, ".0"); },
                  .attention = [block](int64_t level, int64_t layer) { return block(level, layer, ".1"); }};
  return read_config(tensors, at, layers);
}

UNetConfig unet_config_from_diffusers(const TensorMap& tensors) {
  std::vector<int64_t> layers;
  const int64_t levels = count_modules(tensors, "down_blocks");
  for (int64_t i = 0; i < levels; ++i) {
    layers.push_back(count_modules(tensors, "down_blocks." + std::to_string(i) + ".resnets"));
  }
  SINOPIA_CHECK(!layers.empty(), Corrupt, "[checkpoint] the UNet has no down blocks");
  const auto block = [](int64_t level, const char* part, int64_t layer) {
    return "down_blocks." + std::to_string(level) + part + std::to_string(layer);
  };
  const Layout at{
      .conv_in = "conv_in",
      .conv_out = "conv_out",
      .middle_attention = "mid_block.attentions.0",
      .middle_second = "mid_block.resnets.1",
      .label_table = "class_embedding",
      .label_projection =
          has_module(tensors, "add_embedding") ? "add_embedding.linear_1" : "class_embedding.linear_1",
      .time_condition = "time_embedding.cond_proj",
      .out_conv = "conv2",
      .residual = [block](int64_t level, int64_t layer) { return block(level, ".resnets.", layer); },
      .attention = [block](int64_t level, int64_t layer) { return block(level, ".attentions.", layer); }};
  return read_config(tensors, at, layers);
}

TensorMap unet_with_file_shapes(const TensorMap& tensors, const UNetConfig& config) {
  TensorMap result;
  for (const auto& [key, x] : tensors) {
    const bool projection = key.ends_with(".proj_in.weight") || key.ends_with(".proj_out.weight");
    const bool convolution =
        key.ends_with(".conv_shortcut.weight") || (projection && !config.use_linear_projection);
    if (convolution && x.rank() == 2) {
      result[key] = x.reshape({x.dim(0), x.dim(1), 1, 1});
    } else if (projection && !convolution && x.rank() == 4 && x.dim(2) * x.dim(3) == 1) {
      result[key] = x.reshape({x.dim(0), x.dim(1)});
    } else {
      result[key] = x;
    }
  }
  return result;
}

}  // namespace sinopia
