#pragma once

#include "sinopia/io/image.h"
#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// A rough picture of latents [1,h,w,4] of Stable Diffusion 1 and 2, one pixel a cell: a linear map to RGB,
/// whose published factors are those of ComfyUI's latent_formats.py (SD15).
Image preview_image(const Tensor& latents);

}  // namespace sinopia
