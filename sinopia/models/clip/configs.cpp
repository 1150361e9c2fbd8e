#include <array>
#include <utility>

#include <fmt/format.h>

#include "sinopia/models/clip/clip_text.h"
#include "sinopia/models/config_reader.h"

namespace sinopia {
namespace {

using Row = std::pair<std::string_view, ClipTextConfig>;

const std::array<Row, 4>& rows() {
  static const std::array<Row, 4> kRows{{
      {"clip-vit-l", {}},
      {"openclip-vit-h",
       {.hidden_size = 1024,
        .intermediate_size = 4096,
        .layers = 24,
        .heads = 16,
        .activation = Activation::Gelu,
        .skip_layers = 1}},
      {"sdxl-clip-l", {.skip_layers = 1, .final_norm = false}},
      {"sdxl-openclip-bigg",
       {.hidden_size = 1280,
        .intermediate_size = 5120,
        .layers = 32,
        .heads = 20,
        .activation = Activation::Gelu,
        .projection_dim = 1280,
        .skip_layers = 1,
        .final_norm = false}},
  }};
  return kRows;
}

constexpr std::pair<const char*, Activation> kActivations[] = {{"quick_gelu", Activation::QuickGelu},
                                                               {"gelu", Activation::Gelu},
                                                               {"gelu_pytorch_tanh", Activation::GeluTanh},
                                                               {"gelu_new", Activation::GeluTanh}};

}  // namespace

const ClipTextConfig& clip_text_config(std::string_view name) {
  for (const Row& row : rows()) {
    if (row.first == name) return row.second;
  }
  fail(ErrorKind::NotFound, "[clip] no text encoder '{}'; known: {}", name,
       fmt::format("{}", fmt::join(clip_text_config_names(), ", ")));
}

std::vector<std::string_view> clip_text_config_names() {
  std::vector<std::string_view> names;
  for (const Row& row : rows()) names.push_back(row.first);
  return names;
}

ClipTextConfig clip_text_config_from_json(std::string_view text) {
  ConfigReader in(text, "text encoder config");
  in.expect("model_type", {"clip_text_model", "clip"});
  ClipTextConfig c;
  c.vocab_size = in.integer("vocab_size", 49408);
  c.hidden_size = in.integer("hidden_size", 512);
  c.intermediate_size = in.integer("intermediate_size", 2048);
  c.layers = in.integer("num_hidden_layers", 12);
  c.heads = in.integer("num_attention_heads", 8);
  c.max_positions = in.integer("max_position_embeddings", 77);
  c.eps = static_cast<float>(in.number("layer_norm_eps", 1e-5));
  c.bos_token_id = in.integer("bos_token_id", 49406);
  c.eos_token_id = in.integer("eos_token_id", 49407);
  c.pad_token_id = in.integer("pad_token_id", 1);
  const std::vector<std::string> classes = in.texts("architectures", {});
  if (!classes.empty() && classes[0] == "CLIPTextModelWithProjection") {
    c.projection_dim = in.integer("projection_dim", 512);
  }
  const std::string activation = in.text("hidden_act", "quick_gelu");
  for (const auto& [name, value] : kActivations) {
    if (activation == name) {
      c.activation = value;
      return c;
    }
  }
  in.unsupported("hidden_act");
}

std::string clip_text_config_to_json(const ClipTextConfig& c) {
  const char* activation = "";
  for (const auto& [name, value] : kActivations) {
    if (value == c.activation && !*activation) activation = name;
  }
  const bool projects = c.projection_dim > 0;
  const nlohmann::json json{
      {"architectures", {projects ? "CLIPTextModelWithProjection" : "CLIPTextModel"}},
      {"attention_dropout", 0.0},
      {"bos_token_id", c.bos_token_id},
      {"eos_token_id", c.eos_token_id},
      {"hidden_act", activation},
      {"hidden_size", c.hidden_size},
      {"initializer_factor", 1.0},
      {"initializer_range", 0.02},
      {"intermediate_size", c.intermediate_size},
      {"layer_norm_eps", shortest(c.eps)},
      {"max_position_embeddings", c.max_positions},
      {"model_type", "clip_text_model"},
      {"num_attention_heads", c.heads},
      {"num_hidden_layers", c.layers},
      {"pad_token_id", c.pad_token_id},
      {"projection_dim", projects ? c.projection_dim : c.hidden_size},
      {"vocab_size", c.vocab_size},
  };
  return json.dump(2) + "\n";
}

}  // namespace sinopia
