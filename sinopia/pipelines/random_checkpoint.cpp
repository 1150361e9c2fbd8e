#include "sinopia/pipelines/random_checkpoint.h"

#include <array>

#include "sinopia/base/error.h"
#include "sinopia/models/checkpoint/variants.h"
#include "sinopia/models/unet/unet.h"
#include "sinopia/nn/parameters.h"
#include "sinopia/ops/shape.h"

namespace sinopia {
namespace {

struct Preset {
  const char* variant;
  ClipTextConfig text;
  UNetConfig unet;
  AutoencoderConfig vae;
};

constexpr std::array<std::string_view, 3> kPresets = {"tiny-sd1", "sd1", "sd2"};

Preset preset_named(std::string_view name) {
  if (name == "sd2")
    return {"sd2", clip_text_config("openclip-vit-h"), unet_config("sd2"), autoencoder_config("sd")};
  Preset preset{"sd1", clip_text_config("clip-vit-l"), unet_config("sd1"), autoencoder_config("sd")};
  if (name == "sd1") return preset;
  SINOPIA_CHECK(name == "tiny-sd1", NotFound, "[init] unknown preset \"{}\"; known are tiny-sd1, sd1, sd2",
                name);
  preset.text.hidden_size = 64;
  preset.text.intermediate_size = 128;
  preset.text.layers = 2;
  preset.text.heads = 1;
  preset.unet.channels = {32, 64, 64, 64};
  preset.unet.layers = {1, 1, 1, 1};
  preset.unet.cross_attention_dim = 64;
  preset.vae.channels = {32, 32, 32, 32};
  preset.vae.layers_per_block = 1;
  return preset;
}

// One network at a time: only the file's copy, in its dtype, stays.
template <class Network, class Config>
TensorMap random_tensors(const Config& config, uint64_t seed, DType dtype) {
  TensorMap tensors = fresh_tensors<Network>(config, seed);
  for (auto& [name, tensor] : tensors) tensor = to_dtype(tensor, dtype);
  return tensors;
}

}  // namespace

std::span<const std::string_view> random_checkpoint_presets() { return kPresets; }

CheckpointParts random_checkpoint(std::string_view preset_name, uint64_t seed, DType dtype) {
  SINOPIA_CHECK(dtype == DType::F32 || dtype == DType::F16 || dtype == DType::BF16, InvalidArgument,
                "[init] expected f32, f16 or bf16, got {}", to_string(dtype));
  const Preset preset = preset_named(preset_name);
  const Variant& variant = variant_named(preset.variant);
  CheckpointParts parts;
  parts.family = variant.family;
  parts.variant = variant.name;
  parts.description = variant.title;
  parts.schedule = variant.schedule;
  parts.unet = {random_tensors<UNet>(preset.unet, seed, dtype), preset.unet};
  parts.vae = {random_tensors<Autoencoder>(preset.vae, seed + 1, dtype), preset.vae};
  parts.text_encoders.push_back({random_tensors<ClipTextModel>(preset.text, seed + 2, dtype), preset.text,
                                 variant.text_encoders.front().padding_id});
  parts.metadata["format"] = "pt";
  return parts;
}

}  // namespace sinopia
