#pragma once

#include <optional>
#include <vector>

#include "sinopia/backend/recorded_call.h"
#include "sinopia/models/blocks/res_block.h"
#include "sinopia/models/blocks/self_attention.h"
#include "sinopia/models/unet/config.h"
#include "sinopia/models/unet/transformer.h"
#include "sinopia/nn/placement.h"

namespace sinopia {

/// What a UNet may be told besides the text; each is needed exactly if the configuration asks for it.
struct UNetConditions {
  /// Table: i32 [N]; Timestep: f32 [N]; Projection: f32 [N,projection_input_dim].
  Tensor class_labels = {};
  Tensor text_embeds = {};  ///< addition TextTime: pooled text [N,P]
  Tensor time_ids = {};     ///< addition TextTime: sizes, crops, target or score f32 [N,K]
  Tensor vector = {};  ///< addition TextTime, instead of both: [N,projection_input_dim], already embedded
  Tensor time_condition = {};  ///< [N,time_cond_proj_dim]; may be absent in any case
};

/// DeepCache, Ma et al. 2024: the features that come up from below the first depth + 1 skips change little
/// from step to step. Reference: the package DeepCache 0.1.1, whose cache_branch_id is `depth` for networks
/// of two blocks a level.
struct DeepFeatures {
  int64_t depth = 0;  ///< 0 to skips() - 1; skips 0..depth and what they lead to are computed in any case
  Tensor h;           ///< absent: computed and kept here; present: taken from here
};

/// What a call may save. Not to be shared by two calls at once.
struct UNetShortcuts {
  DeepFeatures* deep = nullptr;
  TokenMerging* merging = nullptr;  ///< at the level finest_self_attention()
  /// Where the whole call may be recorded, if there is nothing else of this: it must always be given the same
  /// context, and conditions that are absent or not.
  RecordedCall* recorded = nullptr;
  /// For training: what a layer keeps for its gradient is found again on the way back (checkpointed()).
  bool checkpoint_activations = false;
};

/// The denoiser of latent diffusion (Rombach et al. 2022), Stable Diffusion and SDXL; one class for all of
/// them. Parameters have diffusers' names. Reference: diffusers models/unets/unet_2d_condition.py.
class UNet {
 public:
  /// Throws InvalidArgument for a configuration that does not fit together, and what the scope throws.
  UNet(const Scope& scope, const UNetConfig& config);

  /// The text's keys and values in every cross-attention; text [N,S,cross_attention_dim], or absent for a
  /// model without text.
  UNetContext prepare(const Tensor& text) const;

  /// x [N,H,W,in_channels], t f32 [N] in timesteps 0..999, context as prepared, for N texts ->
  /// [N,H,W,out_channels]. H and W need not be divisible by anything. The result lies
  /// where x does, in its type. Thread safe.
  Tensor forward(const Tensor& x, const Tensor& t, const UNetContext& context,
                 const UNetConditions& conditions = {}, const UNetShortcuts& shortcuts = {}) const;
  /// The same without a prepared context.
  Tensor forward(const Tensor& x, const Tensor& t, const Tensor& text,
                 const UNetConditions& conditions = {}) const {
    return forward(x, t, prepare(text), conditions);
  }

  const UNetConfig& config() const { return config_; }
  Device device() const { return place_.device(); }

 private:
  struct Layer {
    ResBlock res;
    std::optional<SpatialTransformer> cross;
    std::optional<SelfAttention> self;
  };
  struct Level {
    std::vector<Layer> layers;
    std::optional<Downsample> down;
    std::optional<Upsample> up;
  };
  struct Mlp {
    Linear linear_1, linear_2;
    Mlp(const Scope& scope, int64_t in, int64_t out);
    Tensor operator()(const Tensor& x) const;
  };

  void add_attention(Layer& layer, const Scope& scope, int64_t level, int64_t index,
                     ContextSlots& slots) const;
  Level build_down(const Scope& scope, int64_t level, ContextSlots& slots) const;
  Level build_up(const Scope& scope, int64_t level, ContextSlots& slots) const;
  void build_middle(const Scope& scope, ContextSlots& slots);
  /// forward() on tensors that are where the network is, but for the rows of a class table.
  Tensor compute(const Tensor& x, const Tensor& t, const UNetContext& context,
                 const UNetConditions& conditions, const UNetShortcuts& shortcuts) const;
  /// The activated embedding of time and everything added to it, [N,time_dim].
  Tensor embed(const Tensor& t, const UNetConditions& conditions) const;
  Tensor apply(const Layer& layer, const Tensor& x, const Tensor& time, const UNetContext& context,
               TokenMerging* merging = nullptr) const;

  UNetConfig config_;
  Place place_;
  Conv2d conv_in_;
  Mlp time_embedding_;
  std::optional<Linear> time_cond_proj_;
  std::optional<Embedding> class_table_;
  std::optional<Mlp> class_mlp_;
  std::optional<Mlp> add_embedding_;
  std::vector<Level> down_, up_;
  std::vector<Layer> middle_;
  GroupNorm norm_out_;
  Conv2d conv_out_;
  int64_t context_slots_ = 0;
};

}  // namespace sinopia
