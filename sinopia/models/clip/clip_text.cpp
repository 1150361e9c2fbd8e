#include "sinopia/models/clip/clip_text.h"

#include <algorithm>

#include "sinopia/ops/attention.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/shape.h"

namespace sinopia {
namespace {

// Of fresh embeddings, as transformers has it: with 1 a learning rate of 1e-3 hardly moves them.
constexpr float kEmbeddingDeviation = 0.02f;

}  // namespace

ClipTextModel::Layer::Layer(const Scope& scope, const ClipTextConfig& config)
    : norm1_(scope / "layer_norm1", config.hidden_size, config.eps),
      norm2_(scope / "layer_norm2", config.hidden_size, config.eps),
      q_(scope / "self_attn" / "q_proj", config.hidden_size, config.hidden_size),
      k_(scope / "self_attn" / "k_proj", config.hidden_size, config.hidden_size),
      v_(scope / "self_attn" / "v_proj", config.hidden_size, config.hidden_size),
      out_(scope / "self_attn" / "out_proj", config.hidden_size, config.hidden_size),
      fc1_(scope / "mlp" / "fc1", config.hidden_size, config.intermediate_size),
      fc2_(scope / "mlp" / "fc2", config.intermediate_size, config.hidden_size),
      heads_(static_cast<int>(config.heads)),
      activation_(config.activation) {}

Tensor ClipTextModel::Layer::operator()(const Tensor& x) const {
  const Tensor n = norm1_(x);
  const Tensor h = out_(attention(q_(n), k_(n), v_(n), {.heads = heads_, .causal = true}), x);
  return fc2_(fc1_(norm2_(h), {}, activation_), h);
}

ClipTextModel::ClipTextModel(const Scope& scope, const ClipTextConfig& config)
    : config_(config),
      place_(scope),
      tokens_(scope / "text_model" / "embeddings" / "token_embedding", config.vocab_size, config.hidden_size,
              kEmbeddingDeviation),
      positions_(scope / "text_model" / "embeddings" / "position_embedding", config.max_positions,
                 config.hidden_size, kEmbeddingDeviation),
      final_norm_(scope / "text_model" / "final_layer_norm", config.hidden_size, config.eps) {
  SINOPIA_CHECK(config.heads > 0 && config.hidden_size % config.heads == 0, InvalidArgument,
                "[clip] expected heads to divide hidden_size, got {} and {}", config.heads,
                config.hidden_size);
  const Scope layers = scope / "text_model" / "encoder" / "layers";
  for (int64_t i = 0; i < config.layers; ++i) layers_.emplace_back(layers / i, config);
  if (config.projection_dim > 0) {
    projection_.emplace(scope / "text_projection", config.hidden_size, config.projection_dim, /*bias=*/false);
  }
}

ClipTextOutput ClipTextModel::forward(const Tensor& ids, const ClipTextOptions& options) const {
  SINOPIA_CHECK(ids.rank() == 2 && ids.dtype() == DType::I32, InvalidArgument,
                "[clip] expected ids i32 [N,T], got {}", describe(ids));
  SINOPIA_CHECK(ids.dim(1) > 0 && ids.dim(1) <= config_.max_positions, InvalidArgument,
                "[clip] expected 1 to {} tokens, got {}", config_.max_positions, ids.dim(1));
  const int64_t skip = options.skip_layers.value_or(config_.skip_layers);
  SINOPIA_CHECK(skip >= 0 && skip < config_.layers, InvalidArgument,
                "[clip] expected to skip 0 to {} layers, got {}", config_.layers - 1, skip);

  Tensor x = embed(ids, options.extra_embeddings);
  ClipTextOutput output;
  const size_t wanted = layers_.size() - static_cast<size_t>(skip);
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (i == wanted) {
      output.hidden = x;
      if (!options.pooled) break;
    }
    x = layers_[i](x);
  }
  if (!output.hidden) output.hidden = x;
  if (options.pooled) output.pooled = pool(final_norm_(x), ids);
  if (options.final_norm.value_or(config_.final_norm)) output.hidden = final_norm_(output.hidden);
  output.hidden = place_.leave(output.hidden, ids.device());
  if (output.pooled) output.pooled = place_.leave(output.pooled, ids.device());
  return output;
}

Tensor ClipTextModel::embed(const Tensor& ids, const Tensor& extra) const {
  const int64_t N = ids.dim(0), T = ids.dim(1), D = config_.hidden_size;
  const int64_t extra_rows = extra ? extra.dim(0) : 0;
  SINOPIA_CHECK(!extra || (extra.rank() == 2 && extra.dim(1) == D), InvalidArgument,
                "[clip] expected extra embeddings [E,{}], got {}", D, describe(extra));
  const std::span<const int32_t> id = ids.values<int32_t>();
  const auto is_extra = [&](int32_t i) { return i >= config_.vocab_size; };
  for (int32_t i : id) {
    SINOPIA_CHECK(i >= 0 && i < config_.vocab_size + extra_rows, InvalidArgument,
                  "[clip] expected token ids below {}, got {}", config_.vocab_size + extra_rows, i);
  }

  const Tensor positions = narrow(to_dtype(positions_.weight(), place_.dtype()), 0, 0, T);
  const auto rows_of = [&](const Tensor& places) { return to_dtype(tokens_(places), place_.dtype()); };
  if (std::none_of(id.begin(), id.end(), is_extra)) return rows_of(ids) + positions;

  std::vector<int32_t> known(id.begin(), id.end());
  std::replace_if(known.begin(), known.end(), is_extra, 0);
  const Tensor rows = rows_of(Tensor::from(Shape{N * T}, known));
  const Tensor extra_rows_there = to_dtype(place_.bring(extra), place_.dtype());
  std::vector<Tensor> pieces;
  for (int64_t begin = 0; begin < N * T;) {
    int64_t end = begin + 1;
    if (is_extra(id[begin])) {
      const int64_t row = id[begin] - config_.vocab_size;
      pieces.push_back(extra_rows_there.slice(row, row + 1));
    } else {
      while (end < N * T && !is_extra(id[end])) ++end;
      pieces.push_back(rows.slice(begin, end));
    }
    begin = end;
  }
  return concat(pieces, 0).reshape({N, T, D}) + positions;
}

Tensor ClipTextModel::pool(const Tensor& last, const Tensor& ids) const {
  constexpr int64_t kLegacyEos = 2;
  const int64_t N = last.dim(0), T = last.dim(1), D = last.dim(2);
  const Tensor rows = last.reshape({N * T, D});
  const std::span<const int32_t> id = ids.values<int32_t>();
  std::vector<Tensor> ends;
  for (int64_t n = 0; n < N; ++n) {
    int64_t end = 0;
    int32_t largest = -1;
    for (int64_t t = 0; t < T; ++t) {
      const int32_t i = id[n * T + t];
      // Ids of extra embeddings lie above the end token's, so they do not count.
      if (config_.eos_token_id == kLegacyEos ? i > largest && i < config_.vocab_size
                                             : i == config_.eos_token_id && largest < 0) {
        largest = i;
        end = t;
      }
    }
    ends.push_back(rows.slice(n * T + end, n * T + end + 1));
  }
  const Tensor pooled = concat(ends, 0);
  return projection_ ? (*projection_)(pooled) : pooled;
}

}  // namespace sinopia
