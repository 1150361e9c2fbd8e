#include "sinopia/io/image.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <string>

#include "sinopia/base/error.h"
#include "sinopia/io/file.h"
#include "sinopia/io/image_codecs.h"
#include "sinopia/io/image_size.h"

namespace sinopia {
namespace {

constexpr size_t kMaxFileBytes = size_t{512} << 20;

void check_image(const Image& image) {
  SINOPIA_CHECK(image.width > 0 && image.height > 0 && image.channels >= 1 && image.channels <= 4 &&
                    int64_t{image.width} * image.height <= kMaxImagePixels &&
                    image.pixels.size() == static_cast<size_t>(image.width) *
                                               static_cast<size_t>(image.height) *
                                               static_cast<size_t>(image.channels),
                InvalidArgument, "[image] {} bytes do not make a picture of {}x{} with {} channels",
                image.pixels.size(), image.width, image.height, image.channels);
}

// Calls map(source pixel, target pixel) for every pixel of a new picture with `channels` channels.
template <class Map>
Image map_pixels(const Image& image, int channels, const Map& map) {
  check_image(image);
  Image result = make_image(image.width, image.height, channels);
  result.text = image.text;
  const size_t count = static_cast<size_t>(image.width) * static_cast<size_t>(image.height);
  const uint8_t* from = image.pixels.data();
  uint8_t* to = result.pixels.data();
  for (size_t i = 0; i < count; ++i, from += image.channels, to += channels) map(from, to);
  return result;
}

struct Decoder {
  Image (*decode)(std::span<const uint8_t>);
  PictureSize (*read_size)(std::span<const uint8_t>);
};

Decoder decoder_for(std::span<const uint8_t> bytes) {
  const auto starts_with = [&](std::string_view magic, size_t offset = 0) {
    return bytes.size() >= offset + magic.size() &&
           std::memcmp(bytes.data() + offset, magic.data(), magic.size()) == 0;
  };
  if (starts_with("\x89PNG\r\n\x1a\n")) return {decode_png, read_png_size};
  if (starts_with("\xff\xd8\xff")) return {decode_jpeg, read_jpeg_size};
  if (starts_with("RIFF") && starts_with("WEBP", 8)) return {decode_webp, read_webp_size};
  SINOPIA_CHECK(!bytes.empty(), Corrupt, "[image] the file is empty");
  fail(ErrorKind::Unsupported, "[image] expected PNG, JPEG or WebP");
}

uint8_t blend(int over, int under, int alpha) {
  const int sum = over * alpha + under * (255 - alpha);
  return static_cast<uint8_t>((sum + 127) / 255);
}

}  // namespace

Image make_image(int width, int height, int channels) {
  SINOPIA_CHECK(width > 0 && height > 0 && int64_t{width} * height <= kMaxImagePixels, InvalidArgument,
                "[image] expected sides from 1 and at most {} pixels, got {}x{}", kMaxImagePixels + 0, width,
                height);
  SINOPIA_CHECK(channels >= 1 && channels <= 4, InvalidArgument, "[image] expected 1 to 4 channels, got {}",
                channels);
  Image image{width, height, channels, {}, {}};
  image.pixels.resize(static_cast<size_t>(width) * static_cast<size_t>(height) *
                      static_cast<size_t>(channels));
  return image;
}

void check_image_size(uint64_t width, uint64_t height, const char* format) {
  SINOPIA_CHECK(width > 0 && height > 0, Corrupt, "[{}] a picture of {}x{}", format, width, height);
  SINOPIA_CHECK(width <= static_cast<uint64_t>(kMaxImagePixels) &&
                    height <= static_cast<uint64_t>(kMaxImagePixels) / width,
                Unsupported, "[{}] a picture of {}x{} has more than {} pixels", format, width, height,
                kMaxImagePixels + 0);
}

Image decode_image(std::span<const uint8_t> bytes) { return decoder_for(bytes).decode(bytes); }

PictureSize read_image_size(std::span<const uint8_t> bytes) { return decoder_for(bytes).read_size(bytes); }

Image read_image(const std::filesystem::path& path) {
  const auto mapped = map_file(path);
  SINOPIA_CHECK(mapped->bytes() <= kMaxFileBytes, Unsupported, "[image] '{}' has {} bytes, more than {}",
                path.string(), mapped->bytes(), kMaxFileBytes + 0);
  try {
    return decode_image({static_cast<const uint8_t*>(mapped->data()), mapped->bytes()});
  } catch (const Error& error) {
    throw Error(error.kind(), fmt::format("{} in '{}'", error.what(), path.string()));
  }
}

ImageFormat format_of_name(const std::filesystem::path& path) {
  std::string ending = path.extension().string();
  std::ranges::transform(ending, ending.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (ending == ".png") return ImageFormat::Png;
  if (ending == ".jpg" || ending == ".jpeg") return ImageFormat::Jpeg;
  if (ending == ".webp") return ImageFormat::Webp;
  fail(ErrorKind::InvalidArgument, "[image] expected a name ending in .png, .jpg, .jpeg or .webp, got '{}'",
       path.string());
}

std::vector<uint8_t> encode_image(const Image& image, ImageFormat format, const ImageOptions& options) {
  check_image(image);
  SINOPIA_CHECK(options.quality >= 1 && options.quality <= 100, InvalidArgument,
                "[image] expected a quality of 1 to 100, got {}", options.quality);
  SINOPIA_CHECK(options.png_compression >= 0 && options.png_compression <= 9, InvalidArgument,
                "[image] expected a PNG compression of 0 to 9, got {}", options.png_compression);
  switch (format) {
    case ImageFormat::Png:
      return encode_png(image, options.png_compression);
    case ImageFormat::Jpeg:
      return encode_jpeg(image.has_alpha() ? to_rgb(image) : image, options.quality);
    case ImageFormat::Webp:
      return encode_webp(image, options.quality, options.lossless);
  }
  fail(ErrorKind::InvalidArgument, "[image] unknown format");
}

void write_image(const std::filesystem::path& path, const Image& image, const ImageOptions& options) {
  write_file(path, std::span<const uint8_t>(encode_image(image, format_of_name(path), options)));
}

Image to_rgb(const Image& image, Color background) {
  if (!image.has_alpha()) return without_alpha(image);
  const bool gray = image.channels == 2;
  return map_pixels(image, 3, [&](const uint8_t* from, uint8_t* to) {
    const int alpha = from[gray ? 1 : 3];
    to[0] = blend(from[0], background.red, alpha);
    to[1] = blend(from[gray ? 0 : 1], background.green, alpha);
    to[2] = blend(from[gray ? 0 : 2], background.blue, alpha);
  });
}

Image without_alpha(const Image& image) {
  const bool gray = image.channels < 3;
  return map_pixels(image, 3, [&](const uint8_t* from, uint8_t* to) {
    to[0] = from[0];
    to[1] = from[gray ? 0 : 1];
    to[2] = from[gray ? 0 : 2];
  });
}

Image to_gray(const Image& image) {
  if (image.channels < 3)
    return map_pixels(image, 1, [](const uint8_t* from, uint8_t* to) { to[0] = from[0]; });
  return map_pixels(image, 1, [](const uint8_t* from, uint8_t* to) {
    to[0] = static_cast<uint8_t>((from[0] * 19595u + from[1] * 38470u + from[2] * 7471u + 0x8000u) >> 16);
  });
}

Image alpha_of(const Image& image) {
  const int place = image.has_alpha() ? image.channels - 1 : -1;
  return map_pixels(image, 1,
                    [&](const uint8_t* from, uint8_t* to) { to[0] = place < 0 ? 255 : from[place]; });
}

Image crop(const Image& image, int left, int top, int width, int height) {
  check_image(image);
  SINOPIA_CHECK(left >= 0 && top >= 0 && width > 0 && height > 0 && width <= image.width - left &&
                    height <= image.height - top,
                InvalidArgument, "[image] no part {}x{} at ({},{}) in a picture of {}x{}", width, height,
                left, top, image.width, image.height);
  Image result = make_image(width, height, image.channels);
  for (int y = 0; y < height; ++y) {
    std::memcpy(result.pixel(y, 0), image.pixel(top + y, left),
                static_cast<size_t>(width) * static_cast<size_t>(image.channels));
  }
  return result;
}

}  // namespace sinopia
