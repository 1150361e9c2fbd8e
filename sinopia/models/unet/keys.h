#pragma once

#include "sinopia/io/tensor_map.h"
#include "sinopia/models/checkpoint/name_map.h"
#include "sinopia/models/unet/config.h"

namespace sinopia {

/// The names of CompVis' UNet (ldm/modules/diffusionmodules/openaimodel.py, "input_blocks.1.0.in_layers.0"),
/// without the prefix they have in a checkpoint, and diffusers'.
NameMap unet_names(const UNetConfig& config);

/// What names and shapes say about a UNet in the original layout: everything but the number of heads (set to
/// 1), the sample size and the groups. Throws Corrupt if blocks are missing, Unsupported for attention
/// without transformers (plain LDM).
UNetConfig unet_config_from_original(const TensorMap& tensors);

/// The same for diffusers' names.
UNetConfig unet_config_from_diffusers(const TensorMap& tensors);

/// The shapes that files have: 1x1 convolutions as [O,I,1,1] and matrices as [O,I], by the configuration,
/// whichever they are here. A model that was trained here holds matrices for both.
TensorMap unet_with_file_shapes(const TensorMap& tensors, const UNetConfig& config);

}  // namespace sinopia
