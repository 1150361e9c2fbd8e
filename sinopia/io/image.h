#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sinopia {

/// An 8-bit picture, top row first.
struct Image {
  int width = 0;
  int height = 0;
  int channels = 3;  ///< 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha; alpha is not premultiplied
  std::vector<uint8_t> pixels;  ///< [H,W,C], sRGB
  /// Text in UTF-8 by key. Generation settings, in the form that AUTOMATIC1111 writes, are under
  /// "parameters".
  std::map<std::string, std::string> text;

  bool has_alpha() const { return channels == 2 || channels == 4; }
  const uint8_t* pixel(int y, int x) const {
    return pixels.data() + (static_cast<size_t>(y) * static_cast<size_t>(width) + static_cast<size_t>(x)) *
                               static_cast<size_t>(channels);
  }
  uint8_t* pixel(int y, int x) { return const_cast<uint8_t*>(std::as_const(*this).pixel(y, x)); }
};

/// The most pixels of a picture that is read or written.
inline constexpr int64_t kMaxImagePixels = int64_t{64} << 20;

/// A black (and transparent) picture. Throws InvalidArgument for sides below 1 or above kMaxImagePixels
/// together.
Image make_image(int width, int height, int channels);

/// Reads PNG, JPEG or WebP, told apart by content. The size is checked before memory is asked for; EXIF
/// rotation is applied; 16-bit channels keep their upper byte, palettes and CMYK become RGB; of an animated
/// WebP the first frame is read. Colour profiles are not applied. Throws Corrupt for broken or cut files,
/// Unsupported for other formats and for more than kMaxImagePixels.
Image decode_image(std::span<const uint8_t> bytes);

/// decode_image of a file of at most 512 MiB. Throws also as map_file does.
Image read_image(const std::filesystem::path& path);

enum class ImageFormat { Png, Jpeg, Webp };

struct ImageOptions {
  int quality = 95;         ///< 1 to 100, for JPEG and lossy WebP
  bool lossless = false;    ///< WebP
  int png_compression = 6;  ///< 0 to 9
};

/// The bytes of an image file. PNG keeps every text entry; JPEG and WebP keep "parameters" alone, as an EXIF
/// UserComment. JPEG has no alpha: the picture is laid over white. From quality 90 JPEG keeps colour at full
/// resolution. Throws InvalidArgument for an Image whose fields do not fit together, options out of range, a
/// text key that PNG does not allow, or text over the 64 KB that JPEG can hold.
std::vector<uint8_t> encode_image(const Image& image, ImageFormat format, const ImageOptions& options = {});

/// The format of ".png", ".jpg", ".jpeg" or ".webp", in either case. Throws InvalidArgument for another
/// ending.
ImageFormat format_of_name(const std::filesystem::path& path);

/// Encodes by the file's ending and writes in one step (see AtomicFile).
void write_image(const std::filesystem::path& path, const Image& image, const ImageOptions& options = {});

struct Color {
  uint8_t red = 255, green = 255, blue = 255;
};

/// RGB without alpha: gray is repeated, alpha is laid over `background`.
Image to_rgb(const Image& image, Color background = {});

/// RGB where alpha, if any, is left out, as Pillow's convert("RGB").
Image without_alpha(const Image& image);

/// One channel of luma, ITU-R 601 in the integers of Pillow's convert("L"); alpha is left out.
Image to_gray(const Image& image);

/// The alpha channel as a gray picture; 255 everywhere if there is none.
Image alpha_of(const Image& image);

/// Part of a picture. Throws InvalidArgument if it is empty or leaves the picture. Text is not kept.
Image crop(const Image& image, int left, int top, int width, int height);

}  // namespace sinopia
