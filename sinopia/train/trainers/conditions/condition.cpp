#include "sinopia/train/trainers/conditions/condition.h"

#include <array>

#include "sinopia/base/error.h"
#include "sinopia/train/trainers/conditions/inpainting.h"
#include "sinopia/train/trainers/conditions/labels.h"
#include "sinopia/train/trainers/conditions/low_resolution.h"
#include "sinopia/train/trainers/conditions/semantic_maps.h"

namespace sinopia {

std::span<const ConditionInfo> conditions() {
  static const std::array<ConditionInfo, 4> kConditions{{
      {"inpainting", "a mask and the known part of the picture", wants_inpainting, make_inpainting},
      {"low resolution", "a small, spoilt picture", wants_low_resolution, make_low_resolution},
      {"semantic map", "a class for each cell", wants_semantic_maps, make_semantic_maps},
      {"labels", "a class for the whole picture", wants_labels, make_labels},
  }};
  return kConditions;
}

std::vector<std::unique_ptr<Condition>> make_conditions(const ConditionContext& context) {
  std::vector<std::unique_ptr<Condition>> result;
  int64_t channels = context.autoencoder.latent_channels;
  for (const ConditionInfo& row : conditions()) {
    if (!row.is_wanted(context)) continue;
    result.push_back(row.make(context));
    channels += result.back()->channels();
  }
  const int64_t C = context.autoencoder.latent_channels;
  SINOPIA_CHECK(
      channels == context.unet.in_channels, Unsupported,
      "[train] a denoiser of {} input channels for latents of {}: expected {}, {} to inpaint, or {} to "
      "raise the resolution, and as many more as semantic_classes says",
      context.unet.in_channels, C, C, 2 * C + 1, C + 3);
  const UNetClassEmbedding kind = context.unet.class_embedding;
  SINOPIA_CHECK(kind == UNetClassEmbedding::None || kind == UNetClassEmbedding::Table, Unsupported,
                "[train] a denoiser with class embeddings that are no table cannot be trained");
  return result;
}

}  // namespace sinopia
