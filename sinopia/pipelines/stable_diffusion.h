#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "sinopia/pipelines/request.h"
#include "sinopia/tensor/tensor.h"

namespace sinopia {

struct LoadOptions {
  std::filesystem::path vae;  ///< a file or folder whose autoencoder takes the place of the model's own
  std::filesystem::path embeddings;  ///< a folder of textual-inversion embeddings
  std::string prediction;            ///< "epsilon", "v_prediction" or "sample"; empty: what the model says
};

/// Stable Diffusion 1 and 2, with 4 or 9 input channels: text to image, image to image and inpainting through
/// one call. The same request gives the same bits, whatever the number of threads, and a batch of n the same
/// pictures as n requests. One generation at a time: not thread safe.
class StableDiffusion {
 public:
  /// A diffusers folder or a single file. Throws NotFound, Corrupt or Unsupported naming what is missing or
  /// wrong.
  explicit StableDiffusion(const std::filesystem::path& model, const LoadOptions& options = {});
  ~StableDiffusion();
  StableDiffusion(StableDiffusion&&) noexcept;

  /// Throws InvalidArgument naming a field that is wrong or does not suit this model, Cancelled when asked to
  /// stop, Backend when a network gives values that are not finite: no such picture is ever returned.
  GenerationResult generate(const GenerationRequest& request);

  /// The name of its file or folder, without the ending.
  const std::string& name() const;
  /// "Stable Diffusion 1, inpainting"
  const std::string& description() const;
  /// The textual-inversion embeddings that prompts may mention.
  const std::vector<std::string>& embeddings() const;
  double load_seconds() const;

 private:
  struct Model;
  std::unique_ptr<Model> model_;
};

}  // namespace sinopia
