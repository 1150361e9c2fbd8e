#pragma once

#include <span>
#include <vector>

#include "sinopia/io/image.h"
#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// f32 [1,H,W,3] in [-1,1]: 2 (p / 255) - 1 in float, as diffusers' VaeImageProcessor. Gray is repeated,
/// alpha left out.
Tensor image_to_tensor(const Image& image);

/// The same for pictures of one size, f32 [N,H,W,3]. Throws InvalidArgument for none, or for different sizes.
Tensor images_to_tensor(std::span<const Image> images);

/// RGB pictures from f32 [N,H,W,3] in [-1,1]: clamp(x / 2 + 0.5, 0, 1) * 255, rounded half to even, as
/// diffusers. Throws InvalidArgument for another shape, type or device, and Backend for a value that is not a
/// number.
std::vector<Image> tensor_to_images(const Tensor& x);

/// f32 [1,H,W,1] in [0,1]: luma / 255; `binarize` makes it 0 below 0.5 and 1 from 0.5 on. Where the mask is 1
/// an inpainting picture is painted anew.
Tensor mask_to_tensor(const Image& mask, bool binarize = true);

}  // namespace sinopia
