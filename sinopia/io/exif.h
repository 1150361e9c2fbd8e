#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sinopia/io/image.h"
#include "sinopia/io/image_size.h"

namespace sinopia {

/// The two EXIF fields that matter here.
struct Exif {
  int orientation = 1;       ///< 1 to 8
  std::string user_comment;  ///< UTF-8, empty if absent
};

/// Reads a TIFF structure, with or without the leading "Exif\0\0". What is broken or absent keeps its
/// default: a picture is not refused for its EXIF. A UserComment marked UNICODE is read big endian, as
/// AUTOMATIC1111 writes it, unless a mark or its bytes say otherwise.
Exif parse_exif(std::span<const uint8_t> bytes);

/// A big-endian TIFF structure with a UserComment alone, marked UNICODE and in UTF-16, as piexif makes it.
std::vector<uint8_t> make_exif(std::string_view user_comment);

/// Turns the picture upright, as Pillow's exif_transpose.
Image apply_orientation(Image image, int orientation);

/// The size of the picture once it is turned.
PictureSize oriented_size(uint64_t width, uint64_t height, std::span<const uint8_t> exif);

/// Puts a decoded picture's EXIF to use: turns it, and keeps the UserComment as the text "parameters".
Image apply_exif(Image image, std::span<const uint8_t> exif);

}  // namespace sinopia
