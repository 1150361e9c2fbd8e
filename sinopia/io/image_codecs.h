#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sinopia/io/image.h"
#include "sinopia/io/image_size.h"

namespace sinopia {

// One format each, behind decode_image and encode_image. Decoders throw Corrupt and Unsupported; encoders
// expect an Image whose fields fit together.

Image decode_png(std::span<const uint8_t> bytes);
Image decode_jpeg(std::span<const uint8_t> bytes);
Image decode_webp(std::span<const uint8_t> bytes);

// Of the header alone, turned as EXIF says.
PictureSize read_png_size(std::span<const uint8_t> bytes);
PictureSize read_jpeg_size(std::span<const uint8_t> bytes);
PictureSize read_webp_size(std::span<const uint8_t> bytes);

std::vector<uint8_t> encode_png(const Image& image, int compression);
/// image without alpha.
std::vector<uint8_t> encode_jpeg(const Image& image, int quality);
std::vector<uint8_t> encode_webp(const Image& image, int quality, bool lossless);

/// Throws Corrupt for an empty picture and Unsupported for one of more than kMaxImagePixels.
void check_image_size(uint64_t width, uint64_t height, const char* format);

}  // namespace sinopia
