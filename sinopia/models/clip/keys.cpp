#include "sinopia/models/clip/keys.h"

#include <algorithm>
#include <array>

#include "sinopia/base/error.h"
#include "sinopia/models/checkpoint/name_map.h"
#include "sinopia/ops/shape.h"

namespace sinopia {
namespace {

constexpr const char* kLayers = "text_model.encoder.layers.";
constexpr const char* kBlocks = "transformer.resblocks.";
constexpr std::array<const char*, 3> kProjections = {"q_proj", "k_proj", "v_proj"};

bool is_buffer(std::string_view key) {
  return key.ends_with("position_ids") || key == "logit_scale" || key == "logit_bias" || key == "attn_mask";
}

NameMap open_clip_names(int64_t layers) {
  NameMap names;
  names.add("token_embedding", "text_model.embeddings.token_embedding");
  names.add("positional_embedding", "text_model.embeddings.position_embedding.weight");
  names.add("ln_final", "text_model.final_layer_norm");
  for (int64_t i = 0; i < layers; ++i) {
    const std::string original = kBlocks + std::to_string(i) + ".", ours = kLayers + std::to_string(i) + ".";
    names.add(original + "ln_1", ours + "layer_norm1");
    names.add(original + "ln_2", ours + "layer_norm2");
    names.add(original + "mlp.c_fc", ours + "mlp.fc1");
    names.add(original + "mlp.c_proj", ours + "mlp.fc2");
    names.add(original + "attn.out_proj", ours + "self_attn.out_proj");
  }
  return names;
}

int64_t count_layers(const TensorMap& tensors, const std::string& before, const std::string& after) {
  int64_t n = 0;
  while (tensors.contains(before + std::to_string(n) + after)) ++n;
  return n;
}

TensorMap from_transformers(const TensorMap& tensors) {
  TensorMap result;
  for (const auto& [key, x] : tensors) {
    if (is_buffer(key)) continue;
    const bool bare =
        key.starts_with("embeddings.") || key.starts_with("encoder.") || key.starts_with("final_layer_norm.");
    SINOPIA_CHECK(bare || key.starts_with("text_model.") || key == "text_projection.weight", Corrupt,
                  "[checkpoint] the text encoder has no place for '{}'", key);
    SINOPIA_CHECK(result.emplace(bare ? "text_model." + key : key, x).second, Corrupt,
                  "[checkpoint] '{}' is there twice", key);
  }
  return result;
}

TensorMap from_open_clip(const TensorMap& tensors) {
  const NameMap names = open_clip_names(count_layers(tensors, kBlocks, ".ln_1.weight"));
  TensorMap result;
  for (const auto& [key, x] : tensors) {
    if (is_buffer(key)) continue;
    const size_t joined = key.find(".attn.in_proj_");
    if (joined != std::string::npos && key.starts_with(kBlocks)) {
      SINOPIA_CHECK(x.rank() >= 1 && x.dim(0) % 3 == 0, Corrupt,
                    "[checkpoint] expected [3D,..] in '{}', got {}", key, describe(x));
      const size_t begin = std::string_view(kBlocks).size();
      const std::string layer = kLayers + key.substr(begin, joined - begin) + ".self_attn.";
      const std::string kind = key.substr(key.rfind('_') + 1);
      const int64_t D = x.dim(0) / 3;
      for (size_t i = 0; i < 3; ++i) {
        const int64_t row = static_cast<int64_t>(i) * D;
        result[layer + kProjections[i] + "." + kind] = x.slice(row, row + D);
      }
    } else if (key == "text_projection") {
      SINOPIA_CHECK(x.rank() == 2, Corrupt, "[checkpoint] expected a matrix in '{}', got {}", key,
                    describe(x));
      result["text_projection.weight"] =
          permute(is_quantised(x.dtype()) ? to_dtype(x, DType::F16) : x, {1, 0});
    } else {
      const std::optional<std::string> ours = names.to_ours(key);
      SINOPIA_CHECK(ours, Corrupt, "[checkpoint] the text encoder has no place for '{}'", key);
      result[*ours] = x;
    }
  }
  return result;
}

}  // namespace

bool is_open_clip(const TensorMap& tensors) { return tensors.contains("positional_embedding"); }

TensorMap clip_text_from_any(const TensorMap& tensors) {
  return is_open_clip(tensors) ? from_open_clip(tensors) : from_transformers(tensors);
}

TensorMap clip_text_to_open_clip(const TensorMap& tensors) {
  const NameMap names = open_clip_names(count_layers(tensors, kLayers, ".layer_norm1.weight"));
  TensorMap result;
  for (const auto& [key, x] : tensors) {
    if (key == "text_projection.weight") {
      result["text_projection"] = permute(x, {1, 0});
      continue;
    }
    const size_t q = key.find(".self_attn.q_proj.");
    if (q != std::string::npos) {
      const std::string kind = key.substr(key.rfind('.') + 1);
      std::vector<Tensor> parts;
      for (const char* projection : kProjections) {
        const auto part = tensors.find(key.substr(0, q) + ".self_attn." + projection + "." + kind);
        SINOPIA_CHECK(part != tensors.end(), Corrupt,
                      "[checkpoint] the text encoder lacks the {} next to '{}'", projection, key);
        parts.push_back(part->second);
      }
      const size_t begin = std::string_view(kLayers).size();
      result[kBlocks + key.substr(begin, q - begin) + ".attn.in_proj_" + kind] = concat(parts, 0);
    } else if (key.find(".self_attn.k_proj.") == std::string::npos &&
               key.find(".self_attn.v_proj.") == std::string::npos) {
      const std::optional<std::string> original = names.to_original(key);
      SINOPIA_CHECK(original, Corrupt, "[checkpoint] the text encoder has no place for '{}'", key);
      result[*original] = x;
    }
  }
  return result;
}

ClipTextConfig clip_text_config_from_tensors(const TensorMap& tensors) {
  const auto need = [&](const std::string& name) -> const Tensor& {
    const auto found = tensors.find(name);
    SINOPIA_CHECK(found != tensors.end() && found->second.rank() == 2, Corrupt,
                  "[checkpoint] the text encoder lacks the matrix '{}'", name);
    return found->second;
  };
  ClipTextConfig c;
  const Tensor& tokens = need("text_model.embeddings.token_embedding.weight");
  c.vocab_size = tokens.dim(0);
  c.hidden_size = tokens.dim(1);
  c.max_positions = need("text_model.embeddings.position_embedding.weight").dim(0);
  c.layers = count_layers(tensors, kLayers, ".layer_norm1.weight");
  c.intermediate_size = need(std::string(kLayers) + "0.mlp.fc1.weight").dim(0);
  c.heads = std::max<int64_t>(1, c.hidden_size / 64);
  const auto projection = tensors.find("text_projection.weight");
  c.projection_dim = projection == tensors.end() ? 0 : projection->second.dim(0);
  return c;
}

}  // namespace sinopia
