#pragma once

#include "sinopia/io/image.h"

namespace sinopia {

enum class Resampling { Nearest, Box, Bilinear, Bicubic, Lanczos };

/// The picture at another size, bit for bit as Pillow's Image.resize: filters widen when shrinking, run along
/// x and then along y (the other way round where Pillow 13 does), in 22-bit fixed point with 8 bits
/// between; pictures with alpha are premultiplied meanwhile (except for Nearest). Lanczos is what diffusers
/// resizes input pictures with. Text is kept. Throws InvalidArgument for sides below 1 or too many pixels.
Image resize(const Image& image, int width, int height, Resampling resampling = Resampling::Lanczos);

}  // namespace sinopia
