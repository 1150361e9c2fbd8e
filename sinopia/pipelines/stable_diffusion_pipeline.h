#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "sinopia/models/stable_diffusion.h"
#include "sinopia/pipelines/request.h"

namespace sinopia {

/// Stable Diffusion 1 and 2, with 4 or 9 input channels: text to image, image to image and inpainting through
/// one call. The same request gives the same bits, whatever the number of threads, and a batch of n the same
/// pictures as n requests. One generation at a time: not thread safe.
class StableDiffusionPipeline {
 public:
  /// A diffusers folder or a single file. Throws as StableDiffusion::load does, and Unsupported for another
  /// family.
  explicit StableDiffusionPipeline(const std::filesystem::path& model, const LoadOptions& options = {});
  ~StableDiffusionPipeline();
  StableDiffusionPipeline(StableDiffusionPipeline&&) noexcept;

  /// Throws InvalidArgument naming a field that is wrong or does not suit this model, Cancelled when asked to
  /// stop, Backend when a network gives values that are not finite: no such picture is ever returned.
  GenerationResult generate(const GenerationRequest& request);

  /// Adds the textual-inversion embeddings of a folder, which prompts may then mention by their file names.
  /// Returns those names. Throws as add_embeddings does.
  std::vector<std::string> add_embeddings(const std::filesystem::path& folder);

  /// The name of its file or folder, without the ending.
  const std::string& name() const;
  /// "Stable Diffusion 1, inpainting"
  const std::string& description() const;
  double load_seconds() const;

 private:
  struct Model;
  std::unique_ptr<Model> model_;
};

}  // namespace sinopia
