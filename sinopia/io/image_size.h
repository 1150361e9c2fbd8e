#pragma once

#include <cstdint>
#include <span>

namespace sinopia {

/// In pixels.
struct PictureSize {
  int height = 0, width = 0;
  friend bool operator==(const PictureSize&, const PictureSize&) = default;
};

/// The size that decode_image would give, EXIF rotation applied, from the file's header: the pixels may still
/// prove broken. Throws as decode_image does.
PictureSize read_image_size(std::span<const uint8_t> bytes);

}  // namespace sinopia
