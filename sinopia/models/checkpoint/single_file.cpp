#include "sinopia/models/checkpoint/single_file.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <string_view>

#include "sinopia/models/checkpoint/recognise.h"
#include "sinopia/models/checkpoint/variants.h"
#include "sinopia/models/clip/keys.h"
#include "sinopia/models/config_reader.h"
#include "sinopia/models/unet/keys.h"
#include "sinopia/models/vae/keys.h"
#include "sinopia/ops/shape.h"

namespace sinopia {
namespace {

constexpr std::string_view kUNetPrefix = "model.diffusion_model.";
constexpr std::string_view kVaePrefix = "first_stage_model.";

// Training's leftovers: averages, losses, and the schedule's buffers.
constexpr std::string_view kDroppedPrefixes[] = {
    "model_ema.", "low_scale_model.", "first_stage_model.loss.", "first_stage_model.model_ema.",
    "loss.",      "optimizer_states."};
constexpr std::string_view kDroppedNames[] = {"betas",
                                              "alphas_cumprod",
                                              "alphas_cumprod_prev",
                                              "sqrt_alphas_cumprod",
                                              "sqrt_one_minus_alphas_cumprod",
                                              "log_one_minus_alphas_cumprod",
                                              "sqrt_recip_alphas_cumprod",
                                              "sqrt_recipm1_alphas_cumprod",
                                              "posterior_variance",
                                              "posterior_log_variance_clipped",
                                              "posterior_mean_coef1",
                                              "posterior_mean_coef2",
                                              "logvar",
                                              "lvlb_weights",
                                              "scale_factor",
                                              "global_step",
                                              "denoiser.sigmas",
                                              "v_pred",
                                              "ztsnr"};

bool is_dropped(std::string_view key) {
  return std::any_of(std::begin(kDroppedPrefixes), std::end(kDroppedPrefixes),
                     [&](std::string_view p) { return key.starts_with(p); }) ||
         std::find(std::begin(kDroppedNames), std::end(kDroppedNames), key) != std::end(kDroppedNames);
}

std::vector<std::string_view> text_prefixes() {
  std::vector<std::string_view> prefixes;
  for (const Variant& v : variants()) {
    for (const TextVariant& t : v.text_encoders) {
      if (std::find(prefixes.begin(), prefixes.end(), t.prefix) == prefixes.end())
        prefixes.push_back(t.prefix);
    }
  }
  return prefixes;
}

/// The only network of a file without prefixes, or null.
TensorMap* lone_network(const TensorMap& tensors, FileContents& contents) {
  if (tensors.contains("input_blocks.0.0.weight")) return &contents.unet;
  if (tensors.contains("decoder.conv_in.weight")) return &contents.vae;
  if (tensors.contains("conv_in.weight") && tensors.contains("down_blocks.0.resnets.0.norm1.weight")) {
    return &contents.unet;
  }
  for (const char* key : {"text_model.embeddings.token_embedding.weight", "embeddings.token_embedding.weight",
                          "positional_embedding"}) {
    if (tensors.contains(key)) return &contents.text_encoders.emplace_back("", TensorMap()).second;
  }
  return nullptr;
}

bool is_diffusers_unet(const TensorMap& tensors) { return tensors.contains("conv_in.weight"); }

UNetPart read_unet(const TensorMap& tensors, UNetConfig config) {
  UNetPart part{{}, std::move(config)};
  if (is_diffusers_unet(tensors)) {
    part.tensors = with_current_attention_names(tensors);
    return part;
  }
  const NameMap names = unet_names(part.config);
  for (const auto& [key, x] : tensors) {
    const std::optional<std::string> ours = names.to_ours(key);
    SINOPIA_CHECK(ours, Corrupt, "[checkpoint] the UNet has no place for '{}'", key);
    part.tensors[*ours] = x;
  }
  return part;
}

/// A configuration with what the tensors do not say; `row` is that of the variant.
const AutoencoderConfig& known_like(const AutoencoderConfig& config, const char* row) {
  return autoencoder_config(config.codebook ? "vq-f4" : row);
}

AutoencoderPart read_autoencoder(const TensorMap& tensors, const char* row) {
  AutoencoderPart part;
  part.config = autoencoder_config_from_tensors(tensors);
  const AutoencoderConfig& known = known_like(part.config, row);
  part.config.sample_size = known.sample_size;
  part.config.scaling_factor = known.scaling_factor;
  part.config.shift_factor = known.shift_factor;
  const bool original = tensors.contains("encoder.down.0.block.0.norm1.weight");
  part.tensors =
      original ? autoencoder_from_original(tensors, part.config) : with_current_attention_names(tensors);
  return part;
}

TextEncoderPart read_text_encoder(const TensorMap& tensors, const TextVariant& text) {
  TextEncoderPart part;
  part.tensors = clip_text_from_any(tensors);
  part.config = clip_text_config_from_tensors(part.tensors);
  part.config.activation = text.activation;
  part.config.skip_layers = std::min(text.skip_layers, part.config.layers - 1);
  part.config.final_norm = text.final_norm;
  part.padding_id = text.padding_id;
  return part;
}

void read_schedule(const TensorFile& file, CheckpointParts& parts) {
  const auto said = file.metadata.find("modelspec.prediction_type");
  if (said != file.metadata.end()) {
    if (said->second == "v" || said->second == "v_prediction") parts.schedule.prediction = "v_prediction";
    if (said->second == "epsilon") parts.schedule.prediction = "epsilon";
  }
  if (file.tensors.contains("v_pred")) parts.schedule.prediction = "v_prediction";
  if (file.tensors.contains("ztsnr")) parts.schedule.zero_terminal_snr = true;
  // LDM's models that measured their latents' deviation in training keep it as a buffer.
  const auto scale = file.tensors.find("scale_factor");
  if (scale != file.tensors.end() && scale->second.numel() == 1 && !parts.vae.tensors.empty()) {
    parts.vae.config.scaling_factor =
        shortest(to_dtype(scale->second, DType::F32).reshape({1}).values<float>()[0]);
  }
}

std::string list_some(const std::vector<std::string>& names) {
  std::string text;
  constexpr size_t kShown = 5;
  for (size_t i = 0; i < std::min(kShown, names.size()); ++i) text += (i ? ", '" : "'") + names[i] + "'";
  if (names.size() > kShown) text += ", ...";
  return text;
}

/// One more layer, which nothing reads, filled with zeros: readers of the original layout expect it.
void add_unread_layer(TensorMap& open_clip, int64_t layers, int64_t width) {
  const std::string last = "transformer.resblocks." + std::to_string(layers - 1) + ".";
  const std::string added = "transformer.resblocks." + std::to_string(layers) + ".";
  const auto zeros_like = [](const Shape& shape, DType dtype) { return to_dtype(zeros(shape), dtype); };
  TensorMap more;
  for (auto it = open_clip.lower_bound(last); it != open_clip.end() && it->first.starts_with(last); ++it) {
    more[added + it->first.substr(last.size())] = zeros_like(it->second.shape(), it->second.dtype());
  }
  const DType dtype = open_clip.at("positional_embedding").dtype();
  more["text_projection"] = zeros_like({width, width}, dtype);
  open_clip.merge(more);
}

Tensor position_ids(int64_t count) {
  std::vector<int64_t> ids(static_cast<size_t>(count));
  std::iota(ids.begin(), ids.end(), 0);
  return Tensor::from(Shape{1, count}, ids);
}

/// Throws Unsupported where a reader, who has names, shapes and the variant's row to go by, would build other
/// networks.
void check_can_be_told(const CheckpointParts& parts, const Variant& variant) {
  const auto expect = [](bool same, const char* what) {
    SINOPIA_CHECK(same, Unsupported, "[checkpoint] a single file cannot say {}: write a folder", what);
  };
  const UNetConfig& unet = parts.unet.config;
  expect(unet.semantic_classes == 0, "that a UNet takes semantic maps");
  UNetConfig told = unet;
  apply(variant, told);
  expect(told.heads == unet.heads, "how many heads this UNet's attention has");
  expect(unet.norm_num_groups == UNetConfig().norm_num_groups, "how many groups this UNet's norms have");
  expect(parts.vae.tensors.empty() || parts.vae.config.norm_num_groups == AutoencoderConfig().norm_num_groups,
         "how many groups this autoencoder's norms have");
  for (const TextEncoderPart& text : parts.text_encoders)
    expect(clip_text_config_from_tensors(text.tensors).heads == text.config.heads,
           "how many heads this text encoder's attention has");
}

bool is_integer(const Tensor& x) {
  const DType d = x.dtype();
  return d != DType::F32 && d != DType::F16 && d != DType::BF16 && d != DType::F64 && !is_quantised(d);
}

void replace(Tensor& x, DType dtype) {
  if (x.dtype() == dtype) return;
  const Tensor converted = to_dtype(x, dtype);
  x.drop_pages();
  x = converted;
}

/// Part of the names of matrices that are small or looked up, and stay as exact as they were.
constexpr std::string_view kExact[] = {"token_embedding",   "position_embedding", "positional_embedding",
                                       "text_projection",   "time_embed",         "label_emb",
                                       "quantize.embedding"};

bool is_quantisable(std::string_view name, const Tensor& x, DType dtype) {
  return x.rank() == 2 && x.dim(1) % block_elements(dtype) == 0 &&
         std::none_of(std::begin(kExact), std::end(kExact),
                      [&](std::string_view part) { return name.find(part) != std::string_view::npos; });
}

}  // namespace

FileContents sort_by_network(const TensorMap& tensors) {
  FileContents contents;
  const std::vector<std::string_view> prefixes = text_prefixes();
  std::map<std::string_view, TensorMap> texts;
  for (const auto& [key, x] : tensors) {
    const auto text = std::find_if(prefixes.begin(), prefixes.end(),
                                   [&](std::string_view p) { return key.starts_with(p); });
    if (is_dropped(key)) {
      contents.dropped.push_back(key);
    } else if (key.starts_with(kUNetPrefix)) {
      contents.unet[key.substr(kUNetPrefix.size())] = x;
    } else if (key.starts_with(kVaePrefix)) {
      contents.vae[key.substr(kVaePrefix.size())] = x;
    } else if (text != prefixes.end()) {
      texts[*text][key.substr(text->size())] = x;
    } else {
      contents.unknown.push_back(key);
    }
  }
  for (auto& [prefix, map] : texts) contents.text_encoders.emplace_back(std::string(prefix), std::move(map));
  if (contents.unet.empty() && contents.vae.empty() && contents.text_encoders.empty()) {
    if (TensorMap* lone = lone_network(tensors, contents)) {
      for (const std::string& key : contents.unknown) (*lone)[key] = tensors.at(key);
      contents.unknown.clear();
    }
  }
  return contents;
}

UNetConfig unet_config_of(const FileContents& contents) {
  return is_diffusers_unet(contents.unet) ? unet_config_from_diffusers(contents.unet)
                                          : unet_config_from_original(contents.unet);
}

CheckpointParts split_checkpoint(const TensorFile& file) {
  const FileContents contents = sort_by_network(file.tensors);
  const bool empty = contents.unet.empty() && contents.vae.empty() && contents.text_encoders.empty();
  SINOPIA_CHECK(!empty, Unsupported, "[checkpoint] expected a Stable Diffusion model, got: {}",
                recognise(file.tensors).description);
  const Recognition known = recognise(file.tensors);
  SINOPIA_CHECK(known.kind != ModelKind::Other && known.kind != ModelKind::ControlNet, Unsupported,
                "[checkpoint] {} is not supported", known.description);
  SINOPIA_CHECK(contents.unknown.empty(), Corrupt, "[checkpoint] {} keys belong to no known network: {}",
                contents.unknown.size(), list_some(contents.unknown));

  CheckpointParts parts;
  parts.dropped = contents.dropped;
  parts.metadata = file.metadata;
  const Variant* variant = nullptr;
  if (!contents.unet.empty()) {
    UNetConfig config = unet_config_of(contents);
    variant = &variant_of(config);
    apply(*variant, config);
    parts.family = variant->family;
    parts.variant = variant->name;
    parts.schedule = variant->schedule;
    parts.unet = read_unet(contents.unet, std::move(config));
  }
  parts.description = known.description;
  if (!contents.vae.empty()) parts.vae = read_autoencoder(contents.vae, variant ? variant->vae : "sd");
  for (const auto& [prefix, tensors] : contents.text_encoders) {
    const TextVariant* text = nullptr;
    for (const Variant& v : variants()) {
      if (variant && variant->family != v.family) continue;
      for (const TextVariant& t : v.text_encoders) {
        const bool open = is_open_clip(tensors) == (t.layout == TextLayout::OpenClip);
        if (!text && (prefix.empty() ? open : prefix == t.prefix)) text = &t;
      }
    }
    SINOPIA_CHECK(text, Unsupported, "[checkpoint] {} has no text encoder '{}'", parts.description, prefix);
    parts.text_encoders.push_back(read_text_encoder(tensors, *text));
  }
  read_schedule(file, parts);
  return parts;
}

TensorFile join_checkpoint(const CheckpointParts& parts) {
  const Variant& variant = variant_named(parts.variant);
  check_can_be_told(parts, variant);
  TensorFile file;
  file.metadata = parts.metadata;
  file.metadata["modelspec.prediction_type"] = parts.schedule.prediction == "v_prediction" ? "v" : "epsilon";
  const auto put = [&](std::string_view prefix, const TensorMap& tensors) {
    for (const auto& [key, x] : tensors) file.tensors[std::string(prefix) + key] = x;
  };
  const NameMap names = unet_names(parts.unet.config);
  for (const auto& [key, x] : unet_with_file_shapes(parts.unet.tensors, parts.unet.config)) {
    const std::optional<std::string> original = names.to_original(key);
    SINOPIA_CHECK(original, Corrupt, "[checkpoint] the UNet has no place for '{}'", key);
    file.tensors[std::string(kUNetPrefix) + *original] = x;
  }
  put(kVaePrefix, autoencoder_to_original(autoencoder_with_file_shapes(parts.vae.tensors), parts.vae.config));
  SINOPIA_CHECK(parts.text_encoders.empty() || parts.text_encoders.size() == variant.text_encoders.size(),
                InvalidArgument, "[checkpoint] {} has {} text encoders, got {}", variant.title,
                variant.text_encoders.size(), parts.text_encoders.size());
  for (size_t i = 0; i < parts.text_encoders.size(); ++i) {
    const TextVariant& text = variant.text_encoders[i];
    const TextEncoderPart& part = parts.text_encoders[i];
    if (text.layout == TextLayout::OpenClip) {
      TensorMap open = clip_text_to_open_clip(part.tensors);
      const bool trimmed = text.trimmed && part.config.skip_layers < text.skip_layers;
      if (trimmed) add_unread_layer(open, part.config.layers, part.config.hidden_size);
      put(text.prefix, open);
    } else {
      put(text.prefix, part.tensors);
      file.tensors[std::string(text.prefix) + "text_model.embeddings.position_ids"] =
          position_ids(part.config.max_positions);
    }
  }
  if (parts.schedule.prediction == "v_prediction" && variant.schedule.prediction != "v_prediction") {
    file.tensors["v_pred"] = Tensor::empty({0});
  }
  if (parts.schedule.zero_terminal_snr) file.tensors["ztsnr"] = Tensor::empty({0});
  const float scale = static_cast<float>(parts.vae.config.scaling_factor);
  if (scale != static_cast<float>(known_like(parts.vae.config, variant.vae).scaling_factor))
    file.tensors["scale_factor"] = Tensor::from(Shape{}, std::vector<float>{scale});
  return file;
}

void convert_dtype(CheckpointParts& parts, DType dtype) {
  const auto convert = [dtype](TensorMap& tensors) {
    for (auto& [name, x] : tensors) {
      if (!is_integer(x)) replace(x, dtype);
    }
  };
  convert(parts.unet.tensors);
  convert(parts.vae.tensors);
  for (TextEncoderPart& text : parts.text_encoders) convert(text.tensors);
}

TensorFile to_gguf(const TensorFile& file) {
  TensorFile result{{}, file.metadata};
  for (const auto& [name, x] : file.tensors) {
    if (!is_integer(x)) result.tensors[name] = x.numel() > 0 ? x : zeros({1});
  }
  return result;
}

void quantise_matrices(TensorFile& file, DType dtype) {
  for (auto& [name, x] : file.tensors) {
    if (is_quantisable(name, x, dtype)) {
      replace(x, dtype);
    } else if (x.rank() > 1 && !is_integer(x)) {
      replace(x, DType::F16);
    }
  }
}

}  // namespace sinopia
