#include "sinopia/models/unet/unet.h"

#include "sinopia/autograd/tape.h"
#include "sinopia/ops/activation.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/embedding.h"
#include "sinopia/ops/shape.h"

namespace sinopia {
namespace {

const UNetConfig& checked(const UNetConfig& config) {
  check(config);
  return config;
}

/// Throws unless `x` is there exactly if it is wanted.
void expect(bool wanted, const Tensor& x, const char* name) {
  SINOPIA_CHECK(wanted == x.defined(), InvalidArgument, "[unet] expected {}{}, got {}", wanted ? "" : "no ",
                name, describe(x));
}

}  // namespace

UNet::Mlp::Mlp(const Scope& scope, int64_t in, int64_t out)
    : linear_1(scope / "linear_1", in, out), linear_2(scope / "linear_2", out, out) {}

Tensor UNet::Mlp::operator()(const Tensor& x) const { return linear_2(linear_1(x, {}, Activation::Silu)); }

UNet::UNet(const Scope& scope, const UNetConfig& config)
    : config_(checked(config)),
      place_(scope),
      conv_in_(scope / "conv_in", config.in_channels, config.channels[0], 3),
      time_embedding_(scope / "time_embedding", config.channels[0], config.time_dim()),
      norm_out_(scope / "conv_norm_out", config.channels[0], static_cast<int>(config.norm_num_groups),
                config.norm_eps),
      conv_out_(scope / "conv_out", config.channels[0], config.out_channels, 3) {
  if (config.time_cond_proj_dim > 0) {
    time_cond_proj_.emplace(scope / "time_embedding" / "cond_proj", config.time_cond_proj_dim,
                            config.channels[0],
                            /*bias=*/false);
  }
  const Scope class_scope = scope / "class_embedding";
  switch (config.class_embedding) {
    case UNetClassEmbedding::None:
      break;
    case UNetClassEmbedding::Table:
      class_table_.emplace(class_scope, config.num_class_embeds, config.time_dim());
      break;
    case UNetClassEmbedding::Timestep:
      class_mlp_.emplace(class_scope, config.channels[0], config.time_dim());
      break;
    case UNetClassEmbedding::Projection:
      class_mlp_.emplace(class_scope, config.projection_input_dim, config.time_dim());
      break;
  }
  if (config.addition == UNetAddition::TextTime) {
    add_embedding_.emplace(scope / "add_embedding", config.projection_input_dim, config.time_dim());
  }
  ContextSlots slots = 0;
  for (int64_t i = 0; i < config.levels(); ++i) down_.push_back(build_down(scope, i, slots));
  build_middle(scope / "mid_block", slots);
  for (int64_t i = config.levels(); i-- > 0;) up_.push_back(build_up(scope, i, slots));
  context_slots_ = slots;
}

void UNet::add_attention(Layer& layer, const Scope& scope, int64_t level, int64_t index,
                         ContextSlots& slots) const {
  const size_t i = static_cast<size_t>(level);
  const int groups = static_cast<int>(config_.norm_num_groups);
  const Scope here = scope / "attentions" / index;
  if (config_.attention[i] == UNetAttention::Cross) {
    layer.cross.emplace(
        here,
        TransformerShape{config_.channels[i], config_.heads[i], config_.transformer_layers[i],
                         config_.cross_attention_dim, config_.only_cross_attention[i], groups},
        slots);
  } else if (config_.attention[i] == UNetAttention::Self) {
    layer.self.emplace(here, config_.channels[i], static_cast<int>(config_.heads[i]), groups,
                       config_.norm_eps);
  }
}

UNet::Level UNet::build_down(const Scope& scope, int64_t level, ContextSlots& slots) const {
  const size_t i = static_cast<size_t>(level);
  const Scope here = scope / "down_blocks" / level;
  const int64_t out = config_.channels[i];
  Level result;
  for (int64_t j = 0; j < config_.layers[i]; ++j) {
    const int64_t in = j == 0 ? config_.channels[i == 0 ? 0 : i - 1] : out;
    result.layers.push_back({ResBlock(here / "resnets" / j, in, out, config_.time_dim(),
                                      static_cast<int>(config_.norm_num_groups), config_.norm_eps),
                             {},
                             {}});
    add_attention(result.layers.back(), here, level, j, slots);
  }
  if (level + 1 < config_.levels())
    result.down.emplace(here / "downsamplers" / 0, out, config_.pad_all_sides);
  return result;
}

void UNet::build_middle(const Scope& scope, ContextSlots& slots) {
  if (config_.middle == UNetMiddle::Absent) return;
  const int64_t C = config_.channels.back();
  const int groups = static_cast<int>(config_.norm_num_groups);
  middle_.push_back(
      {ResBlock(scope / "resnets" / 0, C, C, config_.time_dim(), groups, config_.norm_eps), {}, {}});
  if (config_.middle == UNetMiddle::Residual) return;
  const Scope here = scope / "attentions" / 0;
  if (config_.middle == UNetMiddle::Cross) {
    middle_[0].cross.emplace(here,
                             TransformerShape{C, config_.heads.back(), config_.transformer_layers.back(),
                                              config_.cross_attention_dim, false, groups},
                             slots);
  } else {
    middle_[0].self.emplace(here, C, static_cast<int>(config_.heads.back()), groups, config_.norm_eps);
  }
  middle_.push_back(
      {ResBlock(scope / "resnets" / 1, C, C, config_.time_dim(), groups, config_.norm_eps), {}, {}});
}

UNet::Level UNet::build_up(const Scope& scope, int64_t level, ContextSlots& slots) const {
  const size_t i = static_cast<size_t>(level);
  const Scope here = scope / "up_blocks" / (config_.levels() - 1 - level);
  const int64_t out = config_.channels[i];
  const int64_t from_below = level + 1 < config_.levels() ? config_.channels[i + 1] : out;
  const int64_t last_skip = config_.channels[i == 0 ? 0 : i - 1];
  Level result;
  for (int64_t j = 0; j <= config_.layers[i]; ++j) {
    const int64_t in = (j == 0 ? from_below : out) + (j == config_.layers[i] ? last_skip : out);
    result.layers.push_back({ResBlock(here / "resnets" / j, in, out, config_.time_dim(),
                                      static_cast<int>(config_.norm_num_groups), config_.norm_eps),
                             {},
                             {}});
    add_attention(result.layers.back(), here, level, j, slots);
  }
  if (level > 0) result.up.emplace(here / "upsamplers" / 0, out);
  return result;
}

UNetContext UNet::prepare(const Tensor& text) const {
  UNetContext context;
  if (context_slots_ == 0) return context;
  SINOPIA_CHECK(text.defined() && text.rank() == 3 && text.dim(2) == config_.cross_attention_dim,
                InvalidArgument, "[unet] expected a text [N,S,{}], got {}", config_.cross_attention_dim,
                describe(text));
  const Tensor there = place_.enter(text);
  context.layers.resize(static_cast<size_t>(context_slots_));
  for (const std::vector<Level>* path : {&down_, &up_}) {
    for (const Level& level : *path) {
      for (const Layer& layer : level.layers) {
        if (layer.cross) layer.cross->prepare(there, context);
      }
    }
  }
  for (const Layer& layer : middle_) {
    if (layer.cross) layer.cross->prepare(there, context);
  }
  return context;
}

Tensor UNet::embed(const Tensor& t, const UNetConditions& c) const {
  const DType dtype = place_.dtype();
  const auto sinusoids = [this, dtype](const Tensor& x, int64_t dim) {
    const Tensor waves = timestep_embedding(
        x,
        {.dim = dim, .cos_first = config_.flip_sin_to_cos, .shift = config_.freq_shift, .max_period = 10000});
    return to_dtype(waves, dtype);
  };
  const int64_t N = t.dim(0);
  Tensor sample = sinusoids(t, config_.channels[0]);
  SINOPIA_CHECK(!c.time_condition || time_cond_proj_, InvalidArgument,
                "[unet] expected no time_condition, got {}", describe(c.time_condition));
  if (c.time_condition) sample = (*time_cond_proj_)(c.time_condition, sample);
  Tensor emb = time_embedding_(sample);

  expect(config_.class_embedding != UNetClassEmbedding::None, c.class_labels, "class_labels");
  if (class_table_) emb = emb + (*class_table_)(c.class_labels);
  if (class_mlp_) {
    const bool timestep = config_.class_embedding == UNetClassEmbedding::Timestep;
    emb = emb + (*class_mlp_)(timestep ? sinusoids(c.class_labels, config_.channels[0]) : c.class_labels);
  }

  const bool text_time = config_.addition == UNetAddition::TextTime;
  expect(text_time && !c.vector, c.text_embeds, "text_embeds");
  expect(text_time && !c.vector, c.time_ids, "time_ids");
  if (text_time) {
    Tensor vector = c.vector;
    if (!vector) {
      const Tensor ids = sinusoids(c.time_ids.reshape({c.time_ids.numel()}), config_.addition_time_embed_dim);
      vector = concat({c.text_embeds, ids.reshape({N, ids.numel() / N})}, -1);
    }
    SINOPIA_CHECK(vector.rank() == 2 && vector.dim(1) == config_.projection_input_dim, InvalidArgument,
                  "[unet] expected an addition [N,{}], got {}", config_.projection_input_dim,
                  describe(vector));
    emb = emb + (*add_embedding_)(vector);
  } else {
    expect(false, c.vector, "vector");
  }
  return silu(emb);
}

Tensor UNet::apply(const Layer& layer, const Tensor& x, const Tensor& time, const UNetContext& context,
                   TokenMerging* merging) const {
  Tensor h = layer.res(x, time);
  if (layer.cross) return (*layer.cross)(h, context, merging);
  if (layer.self) return (*layer.self)(h);
  return h;
}

Tensor UNet::forward(const Tensor& x, const Tensor& t, const UNetContext& context,
                     const UNetConditions& conditions, const UNetShortcuts& shortcuts) const {
  SINOPIA_CHECK(x.rank() == 4 && x.dim(3) == config_.in_channels, InvalidArgument,
                "[unet] expected x [N,H,W,{}], got {}", config_.in_channels, describe(x));
  SINOPIA_CHECK(t.rank() == 1 && t.dim(0) == x.dim(0), InvalidArgument, "[unet] expected t f32 [{}], got {}",
                x.dim(0), describe(t));
  SINOPIA_CHECK(static_cast<int64_t>(context.layers.size()) == context_slots_, InvalidArgument,
                "[unet] expected a context with {} layers, got {}", context_slots_, context.layers.size());
  SINOPIA_CHECK(context.layers.empty() || context.layers[0].keys.dim(0) == x.dim(0), InvalidArgument,
                "[unet] expected a context for {} pictures, got {}", x.dim(0), context.layers[0].keys.dim(0));

  DeepFeatures* const deep = shortcuts.deep;
  SINOPIA_CHECK(!deep || (deep->depth >= 0 && deep->depth < config_.skips()), InvalidArgument,
                "[unet] expected a depth from 0 to {}, got {}", config_.skips() - 1, deep->depth);
  const bool reuse = deep && deep->h;
  SINOPIA_CHECK(!reuse || deep->h.dim(0) == x.dim(0), InvalidArgument,
                "[unet] expected deep features of {} pictures, got {}", x.dim(0), describe(deep->h));

  // Sinusoids want their numbers in f32; a table's rows are looked up from the CPU.
  const UNetConditions& c = conditions;
  const bool numbers = config_.class_embedding == UNetClassEmbedding::Timestep;
  const Tensor labels = class_table_ ? c.class_labels
                        : numbers    ? place_.bring(c.class_labels)
                                     : place_.enter(c.class_labels);
  const std::vector<Tensor> inputs{place_.enter(x),
                                   place_.bring(t),
                                   labels,
                                   place_.enter(c.text_embeds),
                                   place_.bring(c.time_ids),
                                   place_.enter(c.vector),
                                   place_.enter(c.time_condition)};
  const RecordedCall::Work work = [&](std::span<const Tensor> in) {
    return std::vector{compute(in[0], in[1], context, {in[2], in[3], in[4], in[5], in[6]}, shortcuts)};
  };
  const bool recorded = shortcuts.recorded && !deep && !shortcuts.merging && !class_table_;
  const std::vector<Tensor> y = recorded ? (*shortcuts.recorded)(inputs, work) : work(inputs);
  return place_.leave(y.front(), x.device(), x.dtype());
}

Tensor UNet::compute(const Tensor& x, const Tensor& t, const UNetContext& context,
                     const UNetConditions& conditions, const UNetShortcuts& shortcuts) const {
  DeepFeatures* const deep = shortcuts.deep;
  const bool reuse = deep && deep->h;
  const size_t wanted = static_cast<size_t>(reuse ? deep->depth + 1 : config_.skips());
  const int64_t merging_level = config_.finest_self_attention();
  const auto merging = [&](size_t level) {
    return static_cast<int64_t>(level) == merging_level ? shortcuts.merging : nullptr;
  };

  const Tensor time = embed(t, conditions);
  const auto run = [&](const Layer& layer, const Tensor& input, TokenMerging* merge) {
    if (!shortcuts.checkpoint_activations) return apply(layer, input, time, context, merge);
    std::vector<Tensor> inputs{input, time};
    for (const KeysValues& text : context.layers) {
      inputs.push_back(text.keys);
      inputs.push_back(text.values);
    }
    const auto body = [this, &layer](const std::vector<Tensor>& in) {
      UNetContext texts;
      for (size_t i = 2; i < in.size(); i += 2) texts.layers.push_back({in[i], in[i + 1]});
      return apply(layer, in[0], in[1], texts);
    };
    return checkpointed(body, std::move(inputs));
  };
  Tensor h = conv_in_(config_.center_input_sample ? x * 2.0 - 1.0 : x);
  std::vector<Tensor> skips{h};
  for (size_t i = 0; i < down_.size() && skips.size() < wanted; ++i) {
    for (const Layer& layer : down_[i].layers) {
      if (skips.size() == wanted) break;
      h = run(layer, h, merging(i));
      skips.push_back(h);
    }
    if (down_[i].down && skips.size() < wanted) {
      h = (*down_[i].down)(h);
      skips.push_back(h);
    }
  }
  if (!reuse)
    for (const Layer& layer : middle_) h = run(layer, h, merging(down_.size() - 1));
  size_t left = static_cast<size_t>(config_.skips());  // not taken by the way up so far, computed or not
  for (size_t i = 0; i < up_.size(); ++i) {
    for (const Layer& layer : up_[i].layers) {
      if (--left >= wanted) continue;
      if (deep && left == static_cast<size_t>(deep->depth)) {
        if (reuse)
          h = deep->h;
        else
          deep->h = h;
      }
      h = run(layer, concat({h, skips.back()}, -1), merging(up_.size() - 1 - i));
      skips.pop_back();
    }
    if (up_[i].up && left < wanted) h = (*up_[i].up)(h, skips.back().dim(1), skips.back().dim(2));
  }
  return conv_out_(norm_out_(h, Activation::Silu));
}

}  // namespace sinopia
