#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sinopia/nn/layers.h"
#include "sinopia/nn/placement.h"

namespace sinopia {

/// One of CLIP's text transformers (Radford et al. 2021); fields as in transformers' CLIPTextConfig.
struct ClipTextConfig {
  int64_t vocab_size = 49408;
  int64_t hidden_size = 768;
  int64_t intermediate_size = 3072;
  int64_t layers = 12;
  int64_t heads = 12;
  int64_t max_positions = 77;
  Activation activation = Activation::QuickGelu;
  float eps = 1e-5f;
  int64_t projection_dim = 0;  ///< width of the projected pooled vector; 0 for a model without projection
  int64_t bos_token_id = 0, eos_token_id = 2, pad_token_id = 1;  ///< eos 2: the text ends at its largest id

  // What the denoiser was trained on, which transformers' config does not say.
  int64_t skip_layers = 0;  ///< layers left out at the end: 1 means the penultimate hidden state
  bool final_norm = true;   ///< whether the final layer norm follows

  friend bool operator==(const ClipTextConfig&, const ClipTextConfig&) = default;
};

/// A configuration by name: "clip-vit-l", "openclip-vit-h", "sdxl-clip-l", "sdxl-openclip-bigg".
/// Throws NotFound naming the known ones.
const ClipTextConfig& clip_text_config(std::string_view name);
std::vector<std::string_view> clip_text_config_names();

/// From and to transformers' config.json text. Throws Corrupt for broken JSON, Unsupported for a value that
/// the model does not have.
ClipTextConfig clip_text_config_from_json(std::string_view text);
std::string clip_text_config_to_json(const ClipTextConfig& config);

struct ClipTextOptions {
  std::optional<int64_t> skip_layers = {};  ///< the config's, unless given: "clip skip" minus 1
  std::optional<bool> final_norm = {};      ///< the config's, unless given
  bool pooled = false;                      ///< also compute the pooled vector, from the last layer
  Tensor extra_embeddings = {};  ///< [E,D] rows for the ids vocab_size .. vocab_size+E-1, or absent
};

/// f32 on the CPU.
struct ClipTextOutput {
  Tensor hidden;  ///< [N,T,D]
  Tensor pooled;  ///< [N,projection_dim], [N,D] without projection; absent if not asked for
};

/// CLIP's text encoder. Parameters have transformers' names ("text_model.encoder.layers.0...").
/// Reference: transformers models/clip/modeling_clip.py CLIPTextModelWithProjection.
class ClipTextModel {
 public:
  ClipTextModel(const Scope& scope, const ClipTextConfig& config);

  /// ids i32 [N,T] on the CPU, T at most max_positions. Throws InvalidArgument for a longer text, an id
  /// beyond the tables, or more skipped layers than there are.
  ClipTextOutput forward(const Tensor& ids, const ClipTextOptions& options = {}) const;

  const ClipTextConfig& config() const { return config_; }
  /// The token embeddings [V,D], as stored.
  const Tensor& token_table() const { return tokens_.weight(); }

 private:
  class Layer {
   public:
    Layer(const Scope& scope, const ClipTextConfig& config);
    Tensor operator()(const Tensor& x) const;

   private:
    LayerNorm norm1_, norm2_;
    Linear q_, k_, v_, out_, fc1_, fc2_;
    int heads_;
    Activation activation_;
  };

  Tensor embed(const Tensor& ids, const Tensor& extra) const;
  Tensor pool(const Tensor& last, const Tensor& ids) const;

  ClipTextConfig config_;
  Place place_;
  Embedding tokens_, positions_;
  std::vector<Layer> layers_;
  LayerNorm final_norm_;
  std::optional<Linear> projection_;
};

}  // namespace sinopia
