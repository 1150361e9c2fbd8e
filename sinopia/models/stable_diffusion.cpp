#include "sinopia/models/stable_diffusion.h"

#include "sinopia/io/checkpoint_file.h"
#include "sinopia/io/file.h"
#include "sinopia/models/checkpoint/folder.h"
#include "sinopia/models/checkpoint/single_file.h"
#include "sinopia/models/taesd/keys.h"
#include "sinopia/models/vae/keys.h"
#include "sinopia/nn/parameters.h"

namespace sinopia {
namespace {

/// Builds a network from its part of a checkpoint, strictly.
template <class Model, class Part>
Model build_strictly(const Part& part, const char* what, const Placement& placement) {
  CheckpointParameters parameters(part.tensors, what);
  PlacedParameters placed(parameters, placement);
  Model model(Scope(placed), part.config);
  parameters.finish();
  return model;
}

}  // namespace

CheckpointParts read_checkpoint(const std::filesystem::path& path, std::string_view variant) {
  if (std::filesystem::is_directory(path)) return load_diffusers_folder(path, variant);
  return split_checkpoint(read_tensor_file(path));
}

AutoencoderPart read_autoencoder_part(const std::filesystem::path& path) {
  AutoencoderPart part;
  if (std::filesystem::is_directory(path)) {
    if (std::filesystem::exists(path / "model_index.json")) return read_autoencoder_part(path / "vae");
    constexpr size_t kMaxConfigBytes = size_t{1} << 20;
    part.config = autoencoder_config_from_json(read_text_file(path / "config.json", kMaxConfigBytes));
    part.tensors = with_current_attention_names(read_component(path).tensors);
  } else {
    part = split_checkpoint(read_tensor_file(path)).vae;
  }
  SINOPIA_CHECK(!part.tensors.empty(), NotFound, "[checkpoint] no autoencoder in '{}'", path.string());
  return part;
}

StableDiffusion StableDiffusion::load(const std::filesystem::path& path, const LoadOptions& options) {
  CheckpointParts parts = read_checkpoint(path, options.variant);
  SINOPIA_CHECK(!parts.unet.tensors.empty(), Unsupported, "[checkpoint] '{}' is no whole model but: {}",
                path.string(), parts.description);
  if (!options.vae.empty()) {
    AutoencoderPart vae = read_autoencoder_part(options.vae);
    // A file of an autoencoder alone does not say its scale; the model that it goes with does.
    if (!std::filesystem::is_directory(options.vae) && !parts.vae.tensors.empty()) {
      vae.config.scaling_factor = parts.vae.config.scaling_factor;
      vae.config.shift_factor = parts.vae.config.shift_factor;
    }
    SINOPIA_CHECK(vae.config.latent_channels == parts.unet.config.out_channels, InvalidArgument,
                  "[checkpoint] the autoencoder has {} latent channels, the UNet gives {}",
                  vae.config.latent_channels, parts.unet.config.out_channels);
    parts.vae = std::move(vae);
  }
  if (options.prediction) {
    const std::string& p = *options.prediction;
    SINOPIA_CHECK(p == "epsilon" || p == "v_prediction" || p == "sample", InvalidArgument,
                  "[checkpoint] expected the prediction epsilon, v_prediction or sample, got '{}'", p);
    parts.schedule.prediction = p;
  }
  StableDiffusion model = build(std::move(parts), options);
  if (!options.taesd.empty()) {
    model.tiny_decoder_ = std::make_unique<TinyDecoder>(load_tiny_decoder(options.taesd, options.placement));
    const TinyDecoderConfig& tiny = model.tiny_decoder_->config();
    const AutoencoderConfig& whole = model.vae_->config();
    SINOPIA_CHECK(
        tiny.latent_channels == whole.latent_channels && tiny.factor() == whole.factor() &&
            tiny.out_channels == whole.out_channels,
        InvalidArgument,
        "[checkpoint] the tiny decoder makes {} channels, {} times the size, of {} latent channels; the "
        "model's autoencoder {}, {} times, of {}",
        tiny.out_channels, tiny.factor(), tiny.latent_channels, whole.out_channels, whole.factor(),
        whole.latent_channels);
  }
  return model;
}

size_t MappedWeights::bytes(const std::vector<Tensor>& weights) {
  size_t sum = 0;
  for (const Tensor& weight : weights) sum += weight.bytes();
  return sum;
}

void MappedWeights::drop_pages(const std::vector<Tensor>& weights) {
  for (const Tensor& weight : weights) weight.drop_pages();
}

StableDiffusion StableDiffusion::build(CheckpointParts parts, const LoadOptions& options) {
  SINOPIA_CHECK(!parts.vae.tensors.empty(), NotFound,
                "[checkpoint] the model has no autoencoder; give one of its own");
  const Placement& placement = options.placement;
  const Placement of_vae{placement.device, options.vae_dtype.value_or(placement.dtype)};
  StableDiffusion result;
  result.placement_ = placement;
  result.family_ = parts.family;
  result.variant_ = std::move(parts.variant);
  result.description_ = std::move(parts.description);
  result.schedule_ = std::move(parts.schedule);
  result.class_names_ = std::move(parts.class_names);
  const auto note_mapped = [](const TensorMap& tensors, std::vector<Tensor>& mapped) {
    for (const auto& [name, tensor] : tensors)
      if (tensor.storage()->is_mapped()) mapped.push_back(tensor);
  };
  note_mapped(parts.unet.tensors, result.mapped_weights_.unet);
  note_mapped(parts.vae.tensors, result.mapped_weights_.vae);
  for (const TextEncoderPart& text : parts.text_encoders)
    note_mapped(text.tensors, result.mapped_weights_.text);
  result.unet_ = std::make_unique<UNet>(build_strictly<UNet>(parts.unet, "unet", placement));
  result.vae_ = std::make_unique<Autoencoder>(build_strictly<Autoencoder>(parts.vae, "vae", of_vae));
  if (!of_vae.device.is_cpu() && of_vae.dtype == DType::F16)
    result.precise_vae_ = std::make_unique<Autoencoder>(
        build_strictly<Autoencoder>(parts.vae, "vae", {of_vae.device, DType::F32}));
  for (const TextEncoderPart& text : parts.text_encoders) {
    result.text_encoders_.push_back(
        {build_strictly<ClipTextModel>(text, "text encoder", placement), text.padding_id});
  }
  return result;
}

}  // namespace sinopia
