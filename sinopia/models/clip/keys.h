#pragma once

#include "sinopia/io/tensor_map.h"
#include "sinopia/models/clip/clip_text.h"

namespace sinopia {

/// A text encoder's tensors under transformers' names, from any of: transformers' own, with or without
/// "text_model.", and OpenCLIP's ("transformer.resblocks.0.attn.in_proj_weight"), whose joined q, k and v
/// become views. Buffers that carry nothing (position_ids, logit_scale, attn_mask) are left out. Throws
/// Corrupt naming a key that has no place.
TensorMap clip_text_from_any(const TensorMap& tensors);

/// transformers' names -> OpenCLIP's. Throws Corrupt if a part of q, k and v is missing.
TensorMap clip_text_to_open_clip(const TensorMap& tensors);

/// Whether the names are OpenCLIP's.
bool is_open_clip(const TensorMap& tensors);

/// What shapes and transformers' names say; 64 channels a head, everything else as in the defaults.
/// Throws Corrupt if parts are missing.
ClipTextConfig clip_text_config_from_tensors(const TensorMap& tensors);

}  // namespace sinopia
