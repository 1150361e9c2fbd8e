#include "sinopia/train/trainers/conditions/condition.h"

#include <array>

#include "sinopia/base/error.h"
#include "sinopia/train/trainers/conditions/inpainting.h"
#include "sinopia/train/trainers/conditions/low_resolution.h"

namespace sinopia {

std::span<const ConditionInfo> conditions() {
  static const std::array<ConditionInfo, 2> kConditions{{
      {"inpainting", "a mask and the known part of the picture", wants_inpainting, make_inpainting},
      {"low resolution", "a small, spoilt picture", wants_low_resolution, make_low_resolution},
  }};
  return kConditions;
}

std::vector<std::unique_ptr<Condition>> make_conditions(const ConditionContext& context) {
  std::vector<std::unique_ptr<Condition>> result;
  bool concatenates = context.unet.in_channels == context.autoencoder.latent_channels;
  for (const ConditionInfo& row : conditions()) {
    if (!row.is_wanted(context)) continue;
    result.push_back(row.make(context));
    concatenates = concatenates || result.back()->needs_pixels();
  }
  const int64_t C = context.autoencoder.latent_channels;
  SINOPIA_CHECK(
      concatenates, Unsupported,
      "[train] a denoiser of {} input channels for latents of {}: expected {}, {} to inpaint, or {} to "
      "raise the resolution",
      context.unet.in_channels, C, C, 2 * C + 1, C + 3);
  const UNetClassEmbedding kind = context.unet.class_embedding;
  const bool told_noise = kind == UNetClassEmbedding::Table && wants_low_resolution(context);
  SINOPIA_CHECK(kind == UNetClassEmbedding::None || told_noise, Unsupported,
                "[train] a denoiser with class embeddings cannot be trained");
  return result;
}

}  // namespace sinopia
