#include "sinopia/models/checkpoint/recognise.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "sinopia/models/checkpoint/single_file.h"
#include "sinopia/models/checkpoint/variants.h"
#include "sinopia/models/unet/keys.h"

namespace sinopia {
namespace {

struct Mark {
  const char* part;  ///< found in a key, or all of a key where `whole`
  bool whole;
  ModelKind kind;
  const char* description;
};

// Tried in order: what names a file most precisely comes first.
constexpr Mark kMarks[] = {
    {".lora_down.", false, ModelKind::Lora, "LoRA"},
    {".lora_A.", false, ModelKind::Lora, "LoRA"},
    {".lora.down.", false, ModelKind::Lora, "LoRA"},
    {".lora_linear_layer.", false, ModelKind::Lora, "LoRA"},
    {".hada_w1_a", false, ModelKind::Lora, "LoHa"},
    {".lokr_w1", false, ModelKind::Lora, "LoKr"},
    {"emb_params", true, ModelKind::TextualInversion, "textual inversion"},
    {"clip_g", true, ModelKind::TextualInversion, "textual inversion for Stable Diffusion XL"},
    {"string_to_param.*", true, ModelKind::TextualInversion, "textual inversion"},
    {"control_model.", false, ModelKind::ControlNet, "ControlNet"},
    {"controlnet_cond_embedding.", false, ModelKind::ControlNet, "ControlNet"},
    {"joint_blocks.0.", false, ModelKind::Other, "Stable Diffusion 3"},
    {"double_blocks.0.", false, ModelKind::Other, "FLUX"},
    {"edm_mean", true, ModelKind::Other, "a model in EDM's formulation"},
    {"conv_first.weight", true, ModelKind::Other, "ESRGAN upscaler"},
    {"motion_modules.", false, ModelKind::Other, "AnimateDiff motion module"},
    {"image_proj.", false, ModelKind::Other, "IP-Adapter"},
};

std::optional<Recognition> by_marks(const TensorMap& tensors) {
  for (const Mark& mark : kMarks) {
    const bool found = mark.whole ? tensors.contains(std::string_view(mark.part))
                                  : std::any_of(tensors.begin(), tensors.end(), [&](const auto& item) {
                                      return item.first.find(mark.part) != std::string::npos;
                                    });
    if (found) return Recognition{mark.kind, Family::Unknown, "", mark.description, false};
  }
  return std::nullopt;
}

bool is_learned_embedding(const TensorMap& tensors) {
  constexpr int64_t kWidths[] = {768, 1024, 1280};
  if (tensors.size() != 1) return false;
  const Tensor& x = tensors.begin()->second;
  return x.rank() >= 1 && x.rank() <= 2 &&
         std::find(std::begin(kWidths), std::end(kWidths), x.dim(-1)) != std::end(kWidths);
}

}  // namespace

Recognition recognise(const TensorMap& tensors) {
  if (std::optional<Recognition> marked = by_marks(tensors)) return *marked;
  Recognition result;
  const FileContents contents = sort_by_network(tensors);
  if (!contents.unet.empty()) {
    const bool alone = contents.vae.empty() && contents.text_encoders.empty();
    result.kind = alone ? ModelKind::UNet : ModelKind::Checkpoint;
    try {
      const Variant& variant = variant_of(unet_config_of(contents));
      result.family = variant.family;
      result.variant = variant.name;
      result.description = std::string(variant.title) + (alone ? ", UNet alone" : "");
      result.supported = true;
    } catch (const Error& error) {
      result.description = error.what();
    }
  } else if (!contents.vae.empty()) {
    const bool quantises = contents.vae.contains("quantize.embedding.weight");
    result = {ModelKind::Autoencoder, Family::Unknown, "",
              quantises ? "autoencoder (VQ) alone" : "autoencoder (VAE) alone", true};
  } else if (!contents.text_encoders.empty()) {
    result = {ModelKind::TextEncoder, Family::Unknown, "", "CLIP text encoder alone", true};
  } else if (is_learned_embedding(tensors)) {
    result = {ModelKind::TextualInversion, Family::Unknown, "", "textual inversion", false};
  } else {
    result.description = "unknown";
  }
  return result;
}

ParameterCount count_parameters(const TensorMap& tensors) {
  ParameterCount count;
  for (const auto& [name, x] : tensors) {
    ++count.tensors;
    count.parameters += x.numel();
    count.bytes += x.bytes();
    count.by_dtype[x.dtype()] += x.numel();
  }
  return count;
}

}  // namespace sinopia
