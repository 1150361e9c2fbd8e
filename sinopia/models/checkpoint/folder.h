#pragma once

#include <filesystem>

#include "sinopia/models/checkpoint/parts.h"

namespace sinopia {

/// Reads a folder as diffusers' save_pretrained writes it: model_index.json and the folders of a Stable
/// Diffusion pipeline's networks and schedule. A `variant` such as "fp16" picks those weight files. What a
/// pipeline may have besides (safety_checker, feature_extractor, ...) is left out. Throws NotFound for
/// missing files, Unsupported naming a component, class or setting that cannot be run, Corrupt.
CheckpointParts load_diffusers_folder(const std::filesystem::path& folder, std::string_view variant = "");

/// Writes such a folder, model_index.json last, so that an interrupted one is not taken for whole. Layers of
/// a text encoder that nothing reads are left out, as diffusers does. Throws InvalidArgument for parts
/// without a UNet or an autoencoder, and as write_safetensors does.
void save_diffusers_folder(const std::filesystem::path& folder, const CheckpointParts& parts);

/// Writes a folder with one autoencoder, which read_autoencoder_part reads: config.json and its weights.
void save_autoencoder_folder(const std::filesystem::path& folder, const AutoencoderPart& part);

/// From and to the text of a scheduler_config.json. Throws Corrupt, or Unsupported for a setting that no
/// sampler here has.
ScheduleInfo schedule_info_from_json(std::string_view text);
std::string schedule_info_to_json(const ScheduleInfo& schedule);

}  // namespace sinopia
