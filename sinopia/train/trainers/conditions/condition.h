#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sinopia/io/tensor_map.h"
#include "sinopia/models/unet/unet.h"
#include "sinopia/models/vae/autoencoder.h"
#include "sinopia/pipelines/request.h"
#include "sinopia/train/draws.h"
#include "sinopia/train/recipe/recipe.h"
#include "sinopia/train/trainers/training_set.h"

namespace sinopia {

/// An example of a batch, and how its picture was prepared.
struct PreparedExample {
  int64_t example;  ///< of the training set
  SizeConditioning size;
  bool mirrored = false;
};

/// A batch as a condition sees it on the thread that prepares it.
struct ConditionSource {
  std::vector<PreparedExample> examples;  ///< N
  bool trained_on;                        ///< or validated on
  Tensor pictures;  ///< [N,H,W,3] in [-1,1], as they are trained on; absent if no condition asks for pixels
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
  /// How many channels it adds to the denoiser's input.
  virtual int64_t channels() const { return 0; }
  /// Tensors by names of its own. For a thread of its own.
  virtual void prepare(const ConditionSource& source, TensorMap& prepared) const = 0;
  /// Adds to what the denoiser takes. `autoencoder` is the one of the latents.
  virtual void apply(const TensorMap& prepared, const Autoencoder& autoencoder,
                     ConditionedInput& input) const = 0;
  /// Says in a request what an example has, and returns whether `generate` can be told.
  virtual bool request(int64_t, GenerationRequest&) const { return false; }
};

/// What there is to choose conditions from.
struct ConditionContext {
  const Recipe& recipe;
  const UNetConfig& unet;
  const AutoencoderConfig& autoencoder;
  const TrainingSet& data;
  const std::vector<std::string>& class_names;  ///< of the denoiser's class table

  /// Input channels beside the latents' and those of a semantic map.
  int64_t more_channels() const {
    return unet.in_channels - autoencoder.latent_channels - unet.semantic_classes;
  }
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
