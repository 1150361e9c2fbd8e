#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace sinopia {

/// What a PNG's chunks hold beside the pixels.
struct PngExtras {
  std::map<std::string, std::string> text;  ///< tEXt, zTXt and iTXt, as UTF-8; of equal keys the last
  std::vector<uint8_t> exif;                ///< empty if absent
};

/// Walks the chunks of a PNG whose checksums are checked elsewhere. Throws Corrupt for a chunk that leaves
/// the file, a text chunk that breaks its format, and for more than 8 MiB of text after decompression.
PngExtras read_png_extras(std::span<const uint8_t> png);

/// A chunk's type, "tEXt" if the value is Latin-1 and "iTXt" otherwise, and its data. Throws InvalidArgument
/// for a key outside PNG's rules (1 to 79 Latin-1 characters, no spaces at the ends or doubled) and for a NUL
/// in the value.
std::pair<const char*, std::string> make_png_text(const std::string& key, const std::string& value);

}  // namespace sinopia
