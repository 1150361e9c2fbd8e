#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "sinopia/io/tensor_map.h"
#include "sinopia/models/unet/unet.h"
#include "sinopia/models/vae/autoencoder.h"
#include "sinopia/train/draws.h"
#include "sinopia/train/recipe/recipe.h"

namespace sinopia {

/// A batch as a condition sees it on the thread that prepares it.
struct ConditionSource {
  int64_t count = 0;  ///< N
  Tensor pictures;    ///< [N,H,W,3] in [-1,1], as they are trained on; absent if no condition asks for pixels
  /// The stream of a sample of the batch for a purpose.
  std::function<Draws(Purpose, size_t)> draws;
};

/// What a denoiser takes besides noisy latents and text.
struct ConditionedInput {
  std::vector<Tensor> concatenated;  ///< [N,h,w,..] each, behind the latents, in this order
  UNetConditions conditions;
};

/// One thing that a denoiser is told (Rombach et al. 2022, section 3.3). What it draws follows from the
/// streams of its source alone.
class Condition {
 public:
  virtual ~Condition() = default;
  virtual bool needs_pixels() const { return false; }
  /// Tensors by names of its own. For a thread of its own.
  virtual void prepare(const ConditionSource& source, TensorMap& prepared) const = 0;
  /// Adds to what the denoiser takes. `autoencoder` is the one of the latents.
  virtual void apply(const TensorMap& prepared, const Autoencoder& autoencoder,
                     ConditionedInput& input) const = 0;
};

/// What there is to choose conditions from.
struct ConditionContext {
  const Recipe& recipe;
  const UNetConfig& unet;
  const AutoencoderConfig& autoencoder;
};

struct ConditionInfo {
  const char* name;
  const char* description;
  /// Whether this denoiser has a place for it.
  bool (*is_wanted)(const ConditionContext& context);
  std::unique_ptr<Condition> (*make)(const ConditionContext& context);
};

/// All that are built in.
std::span<const ConditionInfo> conditions();

/// Those of a run. Throws InvalidArgument unless they and the latents make up the denoiser's input channels
/// and its class embedding.
std::vector<std::unique_ptr<Condition>> make_conditions(const ConditionContext& context);

}  // namespace sinopia
