#pragma once

#include "sinopia/io/tensor_map.h"
#include "sinopia/models/checkpoint/name_map.h"
#include "sinopia/models/vae/autoencoder.h"

namespace sinopia {

/// The names of CompVis' autoencoder (ldm/modules/diffusionmodules/model.py, "encoder.down.0.block.0.norm1"),
/// without the prefix they have in a checkpoint, and diffusers'.
NameMap autoencoder_names(const AutoencoderConfig& config);

/// Tensors between the layouts; the attention's weights are 1x1 convolutions in the original and matrices
/// in diffusers. Throws Corrupt naming a key that the configuration does not have.
TensorMap autoencoder_from_original(const TensorMap& tensors, const AutoencoderConfig& config);
TensorMap autoencoder_to_original(const TensorMap& tensors, const AutoencoderConfig& config);

/// The shapes that files have: 1x1 convolutions as [O,I,1,1], whichever they are here. A model that was
/// trained here holds matrices.
TensorMap autoencoder_with_file_shapes(const TensorMap& tensors);

/// What names and shapes say about an autoencoder in either layout; scale, shift and sample size keep their
/// defaults. Throws Corrupt if blocks are missing.
AutoencoderConfig autoencoder_config_from_tensors(const TensorMap& tensors);

/// Renames what old diffusers called query, key, value and proj_attn to to_q, to_k, to_v and to_out.0.
TensorMap with_current_attention_names(const TensorMap& tensors);

}  // namespace sinopia
