#include "sinopia/models/checkpoint/folder.h"

#include "sinopia/io/checkpoint_file.h"
#include "sinopia/io/file.h"
#include "sinopia/models/checkpoint/tokenizer_files.h"
#include "sinopia/models/checkpoint/variants.h"
#include "sinopia/models/clip/keys.h"
#include "sinopia/models/config_reader.h"
#include "sinopia/models/unet/keys.h"
#include "sinopia/models/vae/keys.h"

namespace sinopia {
namespace {

constexpr const char* kFlowScheduler = "FlowMatchEulerDiscreteScheduler";
constexpr const char* kWeights = "diffusion_pytorch_model";  // of a UNet and of an autoencoder

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr size_t kMaxConfigBytes = size_t{1} << 20;
constexpr const char* kDiffusersVersion = "0.30.0";  // the oldest whose readers know every field written here

std::string read_config(const fs::path& path) { return read_text_file(path, kMaxConfigBytes); }

/// The class of a component, empty if the pipeline does not have it.
std::string class_of(const Json& index, const char* component) {
  const auto found = index.find(component);
  if (found == index.end() || !found->is_array() || found->size() != 2 || !(*found)[1].is_string()) return "";
  return (*found)[1].get<std::string>();
}

/// Whether the component is there; throws Unsupported if it is of another class.
bool has_component(const Json& index, const char* component,
                   std::initializer_list<std::string_view> classes) {
  const std::string name = class_of(index, component);
  if (name.empty()) return false;
  for (std::string_view known : classes) {
    if (name == known) return true;
  }
  fail(ErrorKind::Unsupported, "[checkpoint] the folder's {} is a {}, which is not supported", component,
       name);
}

/// The first tokenizer of the folder says what texts are padded with; `fallback` if it says nothing.
int32_t padding_id(const fs::path& tokenizer, int32_t fallback) {
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    if (!fs::exists(tokenizer / name)) continue;
    const Json json = Json::parse(read_config(tokenizer / name), nullptr, /*allow_exceptions=*/false);
    SINOPIA_CHECK(json.is_object(), Corrupt, "[checkpoint] expected a JSON object in '{}'",
                  (tokenizer / name).string());
    Json token = json.value("pad_token", Json());
    if (token.is_object()) token = token.value("content", Json());
    if (token == "!") return 0;
    if (token == "<|endoftext|>") return 49407;
  }
  return fallback;
}

std::string pipeline_index(const CheckpointParts& parts, const Variant& variant) {
  Json index{{"_class_name", variant.pipeline}, {"_diffusers_version", kDiffusersVersion}};
  index["unet"] = {"diffusers", "UNet2DConditionModel"};
  index["vae"] = {"diffusers", autoencoder_class(parts.vae.config)};
  index["scheduler"] = {"diffusers", parts.schedule.scheduler};
  for (size_t i = 0; i < parts.text_encoders.size(); ++i) {
    const std::string folder = variant.text_encoders[i].folder;
    const bool projects =
        parts.text_encoders[i].config.projection_dim > 0 && !variant.text_encoders[i].trimmed;
    index[folder] = {"transformers", projects ? "CLIPTextModelWithProjection" : "CLIPTextModel"};
    index["tokenizer" + folder.substr(std::string_view("text_encoder").size())] = {"transformers",
                                                                                   "CLIPTokenizer"};
  }
  const bool xl = variant.family == Family::Sdxl || variant.family == Family::SdxlRefiner;
  if (xl) {
    for (const char* name : {"text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"}) {
      if (!index.contains(name)) index[name] = {nullptr, nullptr};
    }
    index["force_zeros_for_empty_prompt"] = variant.family == Family::Sdxl;
    if (variant.family == Family::SdxlRefiner) index["requires_aesthetics_score"] = true;
  } else if (variant.family == Family::X4Upscaler) {
    index["low_res_scheduler"] = {"diffusers", "DDPMScheduler"};
    index["max_noise_level"] = 350;
  } else {
    index["safety_checker"] = {nullptr, nullptr};
    index["feature_extractor"] = {nullptr, nullptr};
    index["requires_safety_checker"] = false;
  }
  for (size_t i = 0; i < parts.class_names.size(); ++i)
    index["id2label"][std::to_string(i)] = parts.class_names[i];
  return index.dump(2) + "\n";
}

/// Names of classes by their numbers, as diffusers' DiTPipeline has them.
std::vector<std::string> class_names(const Json& index) {
  std::vector<std::string> names;
  const auto list = index.find("id2label");
  if (list == index.end() || list->is_null()) return names;
  for (size_t i = 0; i < list->size(); ++i) {
    const auto name = list->find(std::to_string(i));
    SINOPIA_CHECK(name != list->end() && name->is_string(), Corrupt,
                  "[checkpoint] expected the folder's id2label to name the classes 0 to {}, {} is missing",
                  list->size() - 1, i);
    names.push_back(name->get<std::string>());
  }
  return names;
}

void write_network(const fs::path& folder, const char* name, const TensorMap& tensors,
                   const std::string& config) {
  make_folder(folder);
  write_sharded(folder, name, {tensors, {{"format", "pt"}}});
  write_file(folder / "config.json", std::string_view(config));
}

/// CLIP's vocabulary in transformers' two files, with the padding token of this encoder.
void write_tokenizer(const fs::path& folder, int32_t padding, int64_t max_length) {
  make_folder(folder);
  const Json names{{"bos_token", "<|startoftext|>"},
                   {"eos_token", "<|endoftext|>"},
                   {"pad_token", padding == 0 ? "!" : "<|endoftext|>"},
                   {"unk_token", "<|endoftext|>"}};
  Json config = names;
  config["tokenizer_class"] = "CLIPTokenizer";
  config["model_max_length"] = max_length;
  config["do_lower_case"] = true;
  config["add_prefix_space"] = false;
  config["errors"] = "replace";
  write_file(folder / "tokenizer_config.json", std::string_view(config.dump(2) + "\n"));
  write_file(folder / "special_tokens_map.json", std::string_view(names.dump(2) + "\n"));
  write_file(folder / "vocab.json", std::string_view(clip_tokenizer_files().vocab_json));
  write_file(folder / "merges.txt", std::string_view(clip_tokenizer_files().merges_txt));
}

/// What diffusers keeps of an encoder whose last layers nothing reads.
TextEncoderPart trimmed(const TextEncoderPart& part) {
  TextEncoderPart result = part;
  for (int64_t i = part.config.layers - part.config.skip_layers; i < part.config.layers; ++i) {
    const std::string prefix = "text_model.encoder.layers." + std::to_string(i) + ".";
    std::erase_if(result.tensors, [&](const auto& item) { return item.first.starts_with(prefix); });
  }
  result.tensors.erase("text_projection.weight");
  result.config.layers -= part.config.skip_layers;
  result.config.skip_layers = 0;
  result.config.projection_dim = 0;
  return result;
}

}  // namespace

ScheduleInfo schedule_info_from_json(std::string_view text) {
  ConfigReader in(text, "scheduler config");
  ScheduleInfo s;
  s.scheduler = in.text("_class_name", "");
  s.train_timesteps = in.integer("num_train_timesteps", 1000);
  if (s.scheduler == kFlowScheduler) {
    s.prediction = "flow_prediction";
    s.flow_shift = in.number("shift", 1);
    return s;
  }
  s.prediction = in.text("prediction_type", "epsilon");
  if (s.prediction != "epsilon" && s.prediction != "v_prediction" && s.prediction != "sample") {
    in.unsupported("prediction_type");
  }
  s.beta_start = in.number("beta_start", 0.0001);
  s.beta_end = in.number("beta_end", 0.02);
  s.beta_schedule = in.text("beta_schedule", "linear");
  if (s.beta_schedule != "linear" && s.beta_schedule != "scaled_linear") in.unsupported("beta_schedule");
  s.zero_terminal_snr = in.boolean("rescale_betas_zero_snr", false);
  s.timestep_spacing = in.text("timestep_spacing", "leading");
  s.steps_offset = in.integer("steps_offset", 0);
  in.expect("trained_betas");
  return s;
}

std::string schedule_info_to_json(const ScheduleInfo& s) {
  if (s.prediction == "flow_prediction")
    return Json{{"_class_name", kFlowScheduler},
                {"_diffusers_version", kDiffusersVersion},
                {"num_train_timesteps", s.train_timesteps},
                {"shift", s.flow_shift}}
               .dump(2) +
           "\n";
  Json json{{"_class_name", s.scheduler},
            {"_diffusers_version", kDiffusersVersion},
            {"beta_end", s.beta_end},
            {"beta_schedule", s.beta_schedule},
            {"beta_start", s.beta_start},
            {"num_train_timesteps", s.train_timesteps},
            {"prediction_type", s.prediction},
            {"steps_offset", s.steps_offset},
            {"timestep_spacing", s.timestep_spacing},
            {"trained_betas", nullptr}};
  if (s.zero_terminal_snr) json["rescale_betas_zero_snr"] = true;
  if (s.scheduler == "DDIMScheduler" || s.scheduler == "PNDMScheduler") json["set_alpha_to_one"] = false;
  if (s.scheduler == "DDIMScheduler" || s.scheduler == "DDPMScheduler") json["clip_sample"] = false;
  if (s.scheduler == "PNDMScheduler") json["skip_prk_steps"] = true;
  return json.dump(2) + "\n";
}

CheckpointParts load_diffusers_folder(const fs::path& folder, std::string_view variant_name) {
  const Json index =
      Json::parse(read_config(folder / "model_index.json"), nullptr, /*allow_exceptions=*/false);
  SINOPIA_CHECK(index.is_object(), Corrupt, "[checkpoint] expected a JSON object in '{}'",
                (folder / "model_index.json").string());
  SINOPIA_CHECK(has_component(index, "unet", {"UNet2DConditionModel"}), Unsupported,
                "[checkpoint] a {} without a UNet is not supported", index.value("_class_name", "pipeline"));
  CheckpointParts parts;
  parts.unet.config = unet_config_from_json(read_config(folder / "unet" / "config.json"));
  parts.unet.tensors = with_current_attention_names(read_component(folder / "unet", variant_name).tensors);
  const Variant& variant = variant_of(parts.unet.config);
  parts.family = variant.family;
  parts.variant = variant.name;
  parts.description = variant.title;
  parts.class_names = class_names(index);
  SINOPIA_CHECK(parts.class_names.empty() ||
                    static_cast<int64_t>(parts.class_names.size()) <= parts.unet.config.num_class_embeds,
                Corrupt, "[checkpoint] the folder's id2label names {} classes, the UNet has {}",
                parts.class_names.size(), parts.unet.config.num_class_embeds);
  if (has_component(index, "vae", {"AutoencoderKL", "VQModel"})) {
    parts.vae.config = autoencoder_config_from_json(read_config(folder / "vae" / "config.json"));
    parts.vae.tensors = with_current_attention_names(read_component(folder / "vae", variant_name).tensors);
  }
  for (const TextVariant& text : variant.text_encoders) {
    if (!has_component(index, text.folder, {"CLIPTextModel", "CLIPTextModelWithProjection"})) continue;
    const fs::path path = folder / text.folder;
    const std::string suffix(std::string_view(text.folder).substr(std::string_view("text_encoder").size()));
    TextEncoderPart part;
    part.config = clip_text_config_from_json(read_config(path / "config.json"));
    part.tensors = clip_text_from_any(read_component(path, variant_name).tensors);
    // A projection's weights decide, as some files say CLIPTextModel and have one all the same.
    part.config.projection_dim = clip_text_config_from_tensors(part.tensors).projection_dim;
    part.config.skip_layers = text.trimmed ? 0 : text.skip_layers;
    part.config.final_norm = text.final_norm;
    part.padding_id = padding_id(folder / ("tokenizer" + suffix), text.padding_id);
    parts.text_encoders.push_back(std::move(part));
  }
  if (!class_of(index, "scheduler").empty()) {
    parts.schedule = schedule_info_from_json(read_config(folder / "scheduler" / "scheduler_config.json"));
  } else {
    parts.schedule = variant.schedule;
  }
  return parts;
}

void save_autoencoder_folder(const fs::path& folder, const AutoencoderPart& part) {
  write_network(folder, kWeights, autoencoder_with_file_shapes(part.tensors),
                autoencoder_config_to_json(part.config));
}

void save_diffusers_folder(const fs::path& folder, const CheckpointParts& parts) {
  SINOPIA_CHECK(!parts.unet.tensors.empty() && !parts.vae.tensors.empty(), InvalidArgument,
                "[checkpoint] a folder needs a UNet and an autoencoder");
  const Variant& variant = variant_named(parts.variant);
  SINOPIA_CHECK(parts.text_encoders.size() == variant.text_encoders.size(), InvalidArgument,
                "[checkpoint] {} has {} text encoders, got {}", variant.title, variant.text_encoders.size(),
                parts.text_encoders.size());
  make_folder(folder);
  std::error_code ignored;
  fs::remove(folder / "model_index.json", ignored);
  write_network(folder / "unet", kWeights, unet_with_file_shapes(parts.unet.tensors, parts.unet.config),
                unet_config_to_json(parts.unet.config));
  save_autoencoder_folder(folder / "vae", parts.vae);
  for (size_t i = 0; i < parts.text_encoders.size(); ++i) {
    const TextVariant& text = variant.text_encoders[i];
    const std::string name = text.folder;
    const TextEncoderPart part = text.trimmed ? trimmed(parts.text_encoders[i]) : parts.text_encoders[i];
    write_network(folder / name, "model", part.tensors, clip_text_config_to_json(part.config));
    write_tokenizer(folder / ("tokenizer" + name.substr(std::string_view("text_encoder").size())),
                    part.padding_id, part.config.max_positions);
  }
  make_folder(folder / "scheduler");
  write_file(folder / "scheduler" / "scheduler_config.json",
             std::string_view(schedule_info_to_json(parts.schedule)));
  if (variant.family == Family::X4Upscaler) {
    ScheduleInfo noise = parts.schedule;
    noise.scheduler = "DDPMScheduler";
    noise.prediction = "epsilon";
    make_folder(folder / "low_res_scheduler");
    write_file(folder / "low_res_scheduler" / "scheduler_config.json",
               std::string_view(schedule_info_to_json(noise)));
  }
  write_file(folder / "model_index.json", std::string_view(pipeline_index(parts, variant)));
}

}  // namespace sinopia
