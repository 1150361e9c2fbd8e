#pragma once

#include <filesystem>

#include "sinopia/io/tensor_map.h"
#include "sinopia/models/taesd/tiny_decoder.h"
#include "sinopia/nn/placement.h"

namespace sinopia {

/// The decoder's tensors under diffusers' names ("decoder.layers.3.conv.0.weight"), without an encoder's,
/// from those names or from the original's: places in a torch Sequential ("4.conv.0.weight"), whose first,
/// the clamp, diffusers does not count. Throws Corrupt for names of neither.
TensorMap tiny_decoder_tensors(const TensorMap& tensors);

/// What names and shapes, as from tiny_decoder_tensors, say about a decoder. Throws Corrupt if layers are
/// missing.
TinyDecoderConfig tiny_decoder_config_from_tensors(const TensorMap& tensors);

/// A tiny decoder out of madebyollin's taesd_decoder.safetensors, a file of diffusers' AutoencoderTiny, or
/// the latter's folder with config.json. Strict. Throws as the readers do.
TinyDecoder load_tiny_decoder(const std::filesystem::path& path, const Placement& placement = {});

}  // namespace sinopia
