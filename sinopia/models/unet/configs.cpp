#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "sinopia/models/config_reader.h"
#include "sinopia/models/unet/config.h"

namespace sinopia {
namespace {

using Row = std::pair<std::string_view, UNetConfig>;
constexpr auto kNone = UNetAttention::None;
constexpr auto kCross = UNetAttention::Cross;

UNetConfig with_in_channels(UNetConfig config, int64_t in_channels) {
  config.in_channels = in_channels;
  return config;
}

const std::vector<Row>& rows() {
  static const std::vector<Row> kRows = [] {
    const UNetConfig sd1;
    UNetConfig sd2;
    sd2.sample_size = 96;
    sd2.heads = {5, 10, 20, 20};
    sd2.cross_attention_dim = 1024;
    sd2.use_linear_projection = true;
    sd2.upcast_attention = true;
    UNetConfig x4;
    x4.sample_size = 128;
    x4.in_channels = 7;
    x4.channels = {256, 512, 512, 1024};
    x4.attention = {kNone, kCross, kCross, kCross};
    x4.only_cross_attention = {true, true, true, false};
    x4.cross_attention_dim = 1024;
    x4.use_linear_projection = true;
    x4.class_embedding = UNetClassEmbedding::Table;
    x4.num_class_embeds = 1000;
    UNetConfig sdxl;
    sdxl.sample_size = 128;
    sdxl.channels = {320, 640, 1280};
    sdxl.attention = {kNone, kCross, kCross};
    sdxl.layers = {2, 2, 2};
    sdxl.heads = {5, 10, 20};
    sdxl.transformer_layers = {1, 2, 10};
    sdxl.only_cross_attention = {false, false, false};
    sdxl.cross_attention_dim = 2048;
    sdxl.use_linear_projection = true;
    sdxl.addition = UNetAddition::TextTime;
    sdxl.addition_time_embed_dim = 256;
    sdxl.projection_input_dim = 2816;
    UNetConfig refiner = sdxl;
    refiner.channels = {384, 768, 1536, 1536};
    refiner.attention = {kNone, kCross, kCross, kNone};
    refiner.layers = {2, 2, 2, 2};
    refiner.heads = {6, 12, 24, 24};
    refiner.transformer_layers = {4, 4, 4, 4};
    refiner.only_cross_attention = {false, false, false, false};
    refiner.cross_attention_dim = 1280;
    refiner.projection_input_dim = 2560;
    UNetConfig ldm;
    ldm.sample_size = 32;
    ldm.cross_attention_dim = 1280;
    return std::vector<Row>{{"sd1", sd1},
                            {"sd1-inpaint", with_in_channels(sd1, 9)},
                            {"sd2", sd2},
                            {"sd2-inpaint", with_in_channels(sd2, 9)},
                            {"x4-upscaler", x4},
                            {"sdxl", sdxl},
                            {"sdxl-refiner", refiner},
                            {"ldm-text2img-large", ldm}};
  }();
  return kRows;
}

struct BlockName {
  UNetAttention attention;
  const char* down;
  const char* up;
};
constexpr BlockName kBlocks[] = {{UNetAttention::None, "DownBlock2D", "UpBlock2D"},
                                 {UNetAttention::Self, "AttnDownBlock2D", "AttnUpBlock2D"},
                                 {UNetAttention::Cross, "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"}};

const BlockName& block_of(UNetAttention attention) {
  return *std::find_if(std::begin(kBlocks), std::end(kBlocks),
                       [&](const BlockName& b) { return b.attention == attention; });
}

std::vector<UNetAttention> read_blocks(ConfigReader& in, bool text) {
  const std::vector<std::string> down = in.texts(
      "down_block_types", text ? std::vector<std::string>{"CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
                                                          "CrossAttnDownBlock2D", "DownBlock2D"}
                               : std::vector<std::string>{"DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D",
                                                          "AttnDownBlock2D"});
  std::vector<UNetAttention> result;
  std::vector<std::string> mirrored;
  for (const std::string& name : down) {
    const auto* block = std::find_if(std::begin(kBlocks), std::end(kBlocks),
                                     [&](const BlockName& b) { return name == b.down; });
    if (block == std::end(kBlocks)) in.unsupported("down_block_types");
    result.push_back(block->attention);
    mirrored.insert(mirrored.begin(), block->up);
  }
  if (in.texts("up_block_types", mirrored) != mirrored) in.unsupported("up_block_types");
  return result;
}

/// diffusers' attention_head_dim is the number of heads where there is a text, and what its name says else.
std::vector<int64_t> read_heads(ConfigReader& in, const UNetConfig& c, bool text) {
  if (!text && !in.has("attention_head_dim")) {
    in.ignore({"attention_head_dim"});
    return std::vector<int64_t>(c.channels.size(), 1);
  }
  std::vector<int64_t> values = in.integers("attention_head_dim", c.channels.size(), 8);
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] <= 0) in.unsupported("attention_head_dim");
    if (c.attention[i] == UNetAttention::Self || !text) {
      if (c.channels[i] % values[i] != 0) in.unsupported("attention_head_dim");
      values[i] = c.channels[i] / values[i];
    }
  }
  return values;
}

UNetMiddle read_middle(ConfigReader& in, bool text) {
  in.ignore({"mid_block_type"});
  if (in.is_null("mid_block_type")) return UNetMiddle::Absent;
  const std::string name = in.text("mid_block_type", text ? "UNetMidBlock2DCrossAttn" : "UNetMidBlock2D");
  if (text && name == "UNetMidBlock2DCrossAttn") return UNetMiddle::Cross;
  if (name == "UNetMidBlock2D") return text ? UNetMiddle::Residual : UNetMiddle::Self;
  in.unsupported("mid_block_type");
}

void read_embeddings(ConfigReader& in, UNetConfig& c) {
  c.projection_input_dim = in.integer("projection_class_embeddings_input_dim", 0);
  c.num_class_embeds = in.integer("num_class_embeds", 0);
  const std::string type = in.text("class_embed_type", "");
  if (type == "timestep") {
    c.class_embedding = UNetClassEmbedding::Timestep;
  } else if (type == "projection") {
    c.class_embedding = UNetClassEmbedding::Projection;
  } else if (!type.empty()) {
    in.unsupported("class_embed_type");
  } else if (c.num_class_embeds > 0) {
    c.class_embedding = UNetClassEmbedding::Table;
  }
  const std::string addition = in.text("addition_embed_type", "");
  c.addition_time_embed_dim = in.integer("addition_time_embed_dim", 0);
  if (addition == "text_time") {
    c.addition = UNetAddition::TextTime;
  } else if (!addition.empty()) {
    in.unsupported("addition_embed_type");
  }
  c.time_cond_proj_dim = in.integer("time_cond_proj_dim", 0);
}

void read_fixed(ConfigReader& in) {
  in.expect("act_fn", {"silu", "swish"});
  in.expect("attention_type", {"default"});
  in.expect("add_attention", {true});
  in.expect("attn_norm_num_groups");
  in.expect("class_embeddings_concat", {false});
  in.expect("conv_in_kernel", {3});
  in.expect("conv_out_kernel", {3});
  in.expect("cross_attention_norm");
  in.expect("downsample_type", {"conv"});
  in.expect("dual_cross_attention", {false});
  in.expect("encoder_hid_dim");
  in.expect("encoder_hid_dim_type");
  in.expect("mid_block_scale_factor", {1});
  in.expect("num_attention_heads");
  in.expect("resnet_out_scale_factor", {1});
  in.expect("resnet_skip_time_act", {false});
  in.expect("resnet_time_scale_shift", {"default"});
  in.expect("reverse_transformer_layers_per_block");
  in.expect("time_embedding_act_fn");
  in.expect("time_embedding_dim");
  in.expect("time_embedding_type", {"positional"});
  in.expect("timestep_post_act");
  in.expect("upsample_type", {"conv"});
  in.ignore(
      {"dropout", "mid_block_only_cross_attention", "addition_embed_type_num_heads", "num_train_timesteps"});
}

template <class T>
nlohmann::json one_or_list(const std::vector<T>& values) {
  if (std::equal(values.begin() + 1, values.end(), values.begin())) return values[0];
  return values;
}

}  // namespace

bool UNetConfig::takes_text() const {
  return cross_attention_dim > 0 &&
         (middle == UNetMiddle::Cross ||
          std::find(attention.begin(), attention.end(), kCross) != attention.end());
}

int64_t UNetConfig::skips() const { return std::accumulate(layers.begin(), layers.end(), levels()); }

int64_t UNetConfig::finest_self_attention() const {
  int64_t i = 0;
  while (i < levels() &&
         (attention[static_cast<size_t>(i)] != kCross || only_cross_attention[static_cast<size_t>(i)]))
    ++i;
  return i;
}

void check(const UNetConfig& c) {
  const size_t n = c.channels.size();
  const auto expect = [](bool ok, const char* field) {
    SINOPIA_CHECK(ok, InvalidArgument, "[unet] the configuration's {} does not fit", field);
  };
  expect(n >= 1 && n <= 8, "block_out_channels");
  expect(c.attention.size() == n, "down_block_types");
  expect(c.layers.size() == n, "layers_per_block");
  expect(c.heads.size() == n, "attention_head_dim");
  expect(c.transformer_layers.size() == n, "transformer_layers_per_block");
  expect(c.only_cross_attention.size() == n, "only_cross_attention");
  expect(c.norm_num_groups > 0, "norm_num_groups");
  expect(c.in_channels > 0 && c.out_channels > 0, "in_channels");
  expect(c.semantic_classes >= 0 && c.semantic_classes < c.in_channels, "semantic_classes");
  expect(c.cross_attention_dim >= 0, "cross_attention_dim");
  for (size_t i = 0; i < n; ++i) {
    const bool attends = c.attention[i] != kNone || (i + 1 == n && c.middle != UNetMiddle::Residual);
    expect(c.channels[i] > 0 && c.channels[i] % c.norm_num_groups == 0, "block_out_channels");
    expect(c.layers[i] > 0, "layers_per_block");
    expect(!attends || (c.heads[i] > 0 && c.channels[i] % c.heads[i] == 0), "attention_head_dim");
    expect(!attends || c.transformer_layers[i] > 0, "transformer_layers_per_block");
    expect(!c.only_cross_attention[i] || c.cross_attention_dim > 0, "only_cross_attention");
  }
  expect(c.class_embedding != UNetClassEmbedding::Table || c.num_class_embeds > 0, "num_class_embeds");
  const bool projects =
      c.class_embedding == UNetClassEmbedding::Projection || c.addition == UNetAddition::TextTime;
  expect(!projects || c.projection_input_dim > 0, "projection_class_embeddings_input_dim");
  expect(c.addition != UNetAddition::TextTime || c.addition_time_embed_dim > 0, "addition_time_embed_dim");
}

const UNetConfig& unet_config(std::string_view name) {
  for (const Row& row : rows()) {
    if (row.first == name) return row.second;
  }
  fail(ErrorKind::NotFound, "[unet] no UNet '{}'; known: {}", name,
       fmt::format("{}", fmt::join(unet_config_names(), ", ")));
}

std::vector<std::string_view> unet_config_names() {
  std::vector<std::string_view> names;
  for (const Row& row : rows()) names.push_back(row.first);
  return names;
}

UNetConfig unet_config_from_json(std::string_view json) {
  ConfigReader in(json, "unet config");
  const std::string name = in.text("_class_name", "UNet2DConditionModel");
  const bool text = name == "UNet2DConditionModel";
  if (!text && name != "UNet2DModel") in.unsupported("_class_name");
  UNetConfig c;
  c.sample_size = in.integer("sample_size", 64);
  c.in_channels = in.integer("in_channels", text ? 4 : 3);
  c.out_channels = in.integer("out_channels", text ? 4 : 3);
  c.semantic_classes = in.integer("semantic_classes", 0);
  c.center_input_sample = in.boolean("center_input_sample", false);
  c.flip_sin_to_cos = in.boolean("flip_sin_to_cos", true);
  c.freq_shift = static_cast<float>(in.number("freq_shift", 0));
  c.attention = read_blocks(in, text);
  c.middle = read_middle(in, text);
  const size_t levels = c.attention.size();
  if (!in.has("block_out_channels")) in.unsupported("block_out_channels");
  c.channels = in.integers("block_out_channels", levels, 0);
  c.layers = in.integers("layers_per_block", levels, 2);
  c.heads = read_heads(in, c, text);
  c.transformer_layers = in.integers("transformer_layers_per_block", levels, 1);
  c.only_cross_attention = in.booleans("only_cross_attention", levels, false);
  const std::vector<int64_t> context = in.integers("cross_attention_dim", levels, text ? 1280 : 0);
  if (std::any_of(context.begin(), context.end(), [&](int64_t d) { return d != context[0]; })) {
    in.unsupported("cross_attention_dim");
  }
  c.cross_attention_dim = context.empty() ? 0 : context[0];
  c.use_linear_projection = in.boolean("use_linear_projection", false);
  const int64_t padding = in.integer("downsample_padding", 1);
  if (padding != 0 && padding != 1) in.unsupported("downsample_padding");
  c.pad_all_sides = padding == 1;
  c.norm_num_groups = in.integer("norm_num_groups", 32);
  c.norm_eps = static_cast<float>(in.number("norm_eps", 1e-5));
  c.upcast_attention = in.boolean("upcast_attention", false);
  read_embeddings(in, c);
  read_fixed(in);
  in.finish();
  check(c);
  return c;
}

std::string unet_config_to_json(const UNetConfig& c) {
  check(c);
  const bool text = c.middle == UNetMiddle::Cross || c.middle == UNetMiddle::Residual ||
                    std::find(c.attention.begin(), c.attention.end(), kCross) != c.attention.end();
  nlohmann::json down = nlohmann::json::array(), up = nlohmann::json::array();
  std::vector<int64_t> heads = c.heads;
  for (size_t i = 0; i < c.attention.size(); ++i) {
    down.push_back(block_of(c.attention[i]).down);
    up.insert(up.begin(), block_of(c.attention[i]).up);
    if (!text || c.attention[i] == UNetAttention::Self) heads[i] = c.channels[i] / c.heads[i];
  }
  nlohmann::json json{
      {"_class_name", text ? "UNet2DConditionModel" : "UNet2DModel"},
      {"act_fn", "silu"},
      {"attention_head_dim", one_or_list(heads)},
      {"block_out_channels", c.channels},
      {"center_input_sample", c.center_input_sample},
      {"class_embed_type", nullptr},
      {"down_block_types", down},
      {"downsample_padding", c.pad_all_sides ? 1 : 0},
      {"flip_sin_to_cos", c.flip_sin_to_cos},
      {"freq_shift", static_cast<int64_t>(c.freq_shift)},
      {"in_channels", c.in_channels},
      {"layers_per_block", one_or_list(c.layers)},
      {"mid_block_scale_factor", 1},
      {"norm_eps", shortest(c.norm_eps)},
      {"norm_num_groups", c.norm_num_groups},
      {"num_class_embeds", nullptr},
      {"out_channels", c.out_channels},
      {"sample_size", c.sample_size},
      {"up_block_types", up},
  };
  if (c.num_class_embeds > 0) json["num_class_embeds"] = c.num_class_embeds;
  if (c.semantic_classes > 0) json["semantic_classes"] = c.semantic_classes;
  if (c.class_embedding == UNetClassEmbedding::Timestep) json["class_embed_type"] = "timestep";
  if (c.class_embedding == UNetClassEmbedding::Projection) json["class_embed_type"] = "projection";
  json["mid_block_type"] = c.middle == UNetMiddle::Cross ? "UNetMidBlock2DCrossAttn" : "UNetMidBlock2D";
  if (c.middle == UNetMiddle::Absent) json["mid_block_type"] = nullptr;
  if (!text) return json.dump(2) + "\n";

  json["cross_attention_dim"] = c.cross_attention_dim;
  json["dual_cross_attention"] = false;
  json["only_cross_attention"] = one_or_list(c.only_cross_attention);
  json["transformer_layers_per_block"] = one_or_list(c.transformer_layers);
  json["upcast_attention"] = c.upcast_attention;
  json["use_linear_projection"] = c.use_linear_projection;
  json["addition_embed_type"] = nullptr;
  if (c.addition == UNetAddition::TextTime) {
    json["addition_embed_type"] = "text_time";
    json["addition_time_embed_dim"] = c.addition_time_embed_dim;
  }
  if (c.projection_input_dim > 0) json["projection_class_embeddings_input_dim"] = c.projection_input_dim;
  if (c.time_cond_proj_dim > 0) json["time_cond_proj_dim"] = c.time_cond_proj_dim;
  return json.dump(2) + "\n";
}

}  // namespace sinopia
