#include "sinopia/io/image.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <zlib.h>

#include "sinopia/io/file.h"
#include "sinopia/io/image_size.h"
#include "tests/kind_of.h"
#include "tests/temporary_folder.h"

namespace sinopia {
namespace {

using testing::kind_of;
using testing::TemporaryFolder;

const std::string kFolder = SINOPIA_TEST_DATA "/io/images/";

std::vector<uint8_t> load(const std::string& name) { return read_file(kFolder + name, 1 << 20); }

std::vector<uint8_t> golden_pixels(const std::string& name, size_t bytes) {
  const std::vector<uint8_t> packed = load(name + ".raw");
  std::vector<uint8_t> pixels(bytes);
  uLongf size = bytes;
  EXPECT_EQ(uncompress(pixels.data(), &size, packed.data(), packed.size()), Z_OK);
  EXPECT_EQ(size, bytes);
  return pixels;
}

int largest_difference(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  EXPECT_EQ(a.size(), b.size());
  int largest = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

Image random_image(int width, int height, int channels, uint32_t seed) {
  Image image = make_image(width, height, channels);
  std::mt19937 random(seed);
  for (uint8_t& value : image.pixels) value = static_cast<uint8_t>(random());
  return image;
}

// Colours that change slowly, which lossy formats keep well.
Image smooth_image(int width, int height, int channels) {
  Image image = make_image(width, height, channels);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < channels; ++c) {
        image.pixel(y, x)[c] = static_cast<uint8_t>(128 + 100 * std::sin(x * 0.05 + y * 0.04 + c));
      }
    }
  }
  return image;
}

TEST(Image, DecodesAsPillow) {
  const auto table = nlohmann::json::parse(std::ifstream(kFolder + "../images.json"));
  EXPECT_GE(table.size(), 30u);
  for (const auto& [name, row] : table.items()) {
    SCOPED_TRACE(name);
    const Image image = read_image(kFolder + name);
    ASSERT_EQ(image.width, row["width"].get<int>());
    ASSERT_EQ(image.height, row["height"].get<int>());
    ASSERT_EQ(image.channels, row["channels"].get<int>());
    EXPECT_EQ(read_image_size(load(name)), (PictureSize{image.height, image.width}));
    const bool lossy = name.ends_with(".jpg") || name == "lossy.webp";
    // The two libraries' inverse transforms may round differently.
    EXPECT_LE(largest_difference(image.pixels, golden_pixels(name, image.pixels.size())), lossy ? 2 : 0);
    EXPECT_EQ(image.text, (row["text"].get<std::map<std::string, std::string>>()));
  }
}

TEST(Image, ContentDecidesTheFormat) {
  const TemporaryFolder folder;
  write_file(folder / "picture.png", std::span<const uint8_t>(load("rgb444.jpg")));
  EXPECT_EQ(read_image(folder / "picture.png").width, 21);
  write_file(folder / "picture.jpg", std::string_view("GIF89a.............."));
  EXPECT_EQ(kind_of([&] { read_image(folder / "picture.jpg"); }), ErrorKind::Unsupported);
  write_file(folder / "empty.png", std::string_view());
  EXPECT_EQ(kind_of([&] { read_image(folder / "empty.png"); }), ErrorKind::Corrupt);
}

TEST(Image, LosslessFormatsKeepEveryPixel) {
  for (int channels = 1; channels <= 4; ++channels) {
    const Image image = random_image(31, 18, channels, 5u + static_cast<uint32_t>(channels));
    const Image png = decode_image(encode_image(image, ImageFormat::Png));
    EXPECT_EQ(png.channels, channels);
    EXPECT_EQ(png.pixels, image.pixels);
    const Image webp = decode_image(encode_image(image, ImageFormat::Webp, {.lossless = true}));
    EXPECT_EQ(without_alpha(webp).pixels, without_alpha(image).pixels);
    EXPECT_EQ(alpha_of(webp).pixels, alpha_of(image).pixels);
  }
}

TEST(Image, LossyFormatsStayClose) {
  for (int channels = 1; channels <= 4; ++channels) {
    Image image = smooth_image(67, 45, channels);
    const Image jpeg = decode_image(encode_image(image, ImageFormat::Jpeg, {.quality = 98}));
    EXPECT_LE(largest_difference(to_rgb(jpeg).pixels, to_rgb(image).pixels), 6);
    if (image.has_alpha()) continue;  // colour under alpha is not kept
    const Image webp = decode_image(encode_image(image, ImageFormat::Webp, {.quality = 98}));
    EXPECT_LE(largest_difference(to_rgb(webp).pixels, to_rgb(image).pixels), 16);
  }
}

TEST(Image, QualityChangesTheSize) {
  const Image image = random_image(64, 64, 3, 4);
  for (const ImageFormat format : {ImageFormat::Jpeg, ImageFormat::Webp}) {
    EXPECT_LT(encode_image(image, format, {.quality = 30}).size(),
              encode_image(image, format, {.quality = 90}).size());
  }
}

TEST(Image, KeepsTextInEveryFormat) {
  for (const std::string parameters :
       {"a cat\nSteps: 20, Seed: 1", "caf\u00e9 \u96ea \U0001f600 (x:1.1)", "\u96ea\u96ea\u96ea"}) {
    Image image = random_image(9, 7, 3, 1);
    image.text["parameters"] = parameters;
    for (const ImageFormat format : {ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Webp}) {
      EXPECT_EQ(decode_image(encode_image(image, format)).text.at("parameters"), parameters);
    }
  }
}

TEST(Image, ChoosesThePngChunkByTheText) {
  const auto contains = [](const std::vector<uint8_t>& bytes, const std::string& part) {
    return std::search(bytes.begin(), bytes.end(), part.begin(), part.end()) != bytes.end();
  };
  Image image = random_image(3, 2, 3, 1);
  image.text["parameters"] = "caf\u00e9";
  EXPECT_TRUE(contains(encode_image(image, ImageFormat::Png), "tEXtparameters"));
  image.text["parameters"] = "\u96ea";
  EXPECT_TRUE(contains(encode_image(image, ImageFormat::Png), "iTXtparameters"));
}

TEST(Image, RefusesTextThatAFormatCannotHold) {
  const auto refusal = [](const std::string& key, const std::string& value, ImageFormat format) {
    Image image = random_image(3, 2, 3, 1);
    image.text[key] = value;
    return kind_of([&] { encode_image(image, format); });
  };
  const auto invalid = ErrorKind::InvalidArgument;
  EXPECT_EQ(refusal("", "x", ImageFormat::Png), invalid);
  EXPECT_EQ(refusal(" a", "x", ImageFormat::Png), invalid);
  EXPECT_EQ(refusal("a  b", "x", ImageFormat::Png), invalid);
  EXPECT_EQ(refusal("\u96ea", "x", ImageFormat::Png), invalid);
  EXPECT_EQ(refusal(std::string(80, 'k'), "x", ImageFormat::Png), invalid);
  EXPECT_EQ(refusal("a", std::string("x\0y", 3), ImageFormat::Png), invalid);
  EXPECT_EQ(refusal("a", "\xff", ImageFormat::Png), invalid);
  EXPECT_EQ(refusal("parameters", std::string(40'000, 'x'), ImageFormat::Jpeg), invalid);
  EXPECT_EQ(refusal("parameters", std::string(40'000, 'x'), ImageFormat::Webp), std::nullopt);
}

TEST(Image, RefusesWrongRequests) {
  const auto invalid = ErrorKind::InvalidArgument;
  Image image = random_image(3, 2, 3, 1);
  EXPECT_EQ(kind_of([&] { encode_image(image, ImageFormat::Jpeg, {.quality = 0}); }), invalid);
  EXPECT_EQ(kind_of([&] { encode_image(image, ImageFormat::Webp, {.quality = 101}); }), invalid);
  EXPECT_EQ(kind_of([&] { encode_image(image, ImageFormat::Png, {.png_compression = 10}); }), invalid);
  EXPECT_EQ(kind_of([&] { format_of_name("a.gif"); }), invalid);
  EXPECT_EQ(format_of_name("A.JPEG"), ImageFormat::Jpeg);
  image.pixels.pop_back();
  EXPECT_EQ(kind_of([&] { encode_image(image, ImageFormat::Png); }), invalid);
  EXPECT_EQ(kind_of([&] { to_gray(image); }), invalid);
  EXPECT_EQ(kind_of([&] { make_image(8193, 8192, 3); }), invalid);
  EXPECT_EQ(kind_of([&] { make_image(0, 8192, 3); }), invalid);
  EXPECT_EQ(kind_of([&] { encode_image(make_image(70'000, 1, 3), ImageFormat::Jpeg); }), invalid);
  EXPECT_EQ(kind_of([&] { encode_image(make_image(20'000, 1, 3), ImageFormat::Webp); }), invalid);
}

TEST(Image, WritesByItsEnding) {
  const TemporaryFolder folder;
  const Image image = random_image(10, 11, 3, 2);
  for (const char* name : {"a.png", "a.JPG", "a.jpeg", "a.webp"}) {
    write_image(folder / name, image);
    EXPECT_EQ(read_image(folder / name).height, 11) << name;
  }
  EXPECT_EQ(kind_of([&] { write_image(folder / "a.bmp", image); }), ErrorKind::InvalidArgument);
}

TEST(Image, LaysAlphaOverABackground) {
  Image image = make_image(2, 1, 4);
  image.pixels = {200, 100, 0, 128, 9, 9, 9, 0};
  const Image rgb = to_rgb(image, {10, 20, 30});
  // (v * 128 + b * 127) / 255, rounded.
  EXPECT_EQ(rgb.pixels, (std::vector<uint8_t>{105, 60, 15, 10, 20, 30}));
  Image gray = make_image(1, 1, 2);
  gray.pixels = {100, 255};
  EXPECT_EQ(to_rgb(gray).pixels, (std::vector<uint8_t>{100, 100, 100}));
  EXPECT_EQ(alpha_of(to_rgb(gray)).pixels, std::vector<uint8_t>{255});
}

TEST(Image, Crops) {
  const Image image = random_image(7, 5, 3, 8);
  const Image part = crop(image, 2, 1, 4, 3);
  for (int y = 0; y < 3; ++y) {
    for (int x = 0; x < 4; ++x)
      EXPECT_TRUE(std::equal(part.pixel(y, x), part.pixel(y, x) + 3, image.pixel(y + 1, x + 2)));
  }
  EXPECT_EQ(kind_of([&] { crop(image, 4, 0, 4, 1); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { crop(image, -1, 0, 2, 1); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { crop(image, 1, 0, 2147483647, 1); }), ErrorKind::InvalidArgument);
}

// --- Hostile files
// ---------------------------------------------------------------------------------------------

std::string chunk(const std::string& type, const std::string& data) {
  const auto put = [](uint32_t value) {
    std::string bytes;
    for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift);
    return bytes;
  };
  const std::string body = type + data;
  const auto crc = crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()));
  return put(static_cast<uint32_t>(data.size())) + body + put(static_cast<uint32_t>(crc));
}

std::string header_chunk(uint32_t width, uint32_t height, int depth, int color) {
  std::string data;
  for (const uint32_t value : {width, height}) {
    for (int shift = 24; shift >= 0; shift -= 8) data += static_cast<char>(value >> shift);
  }
  return chunk("IHDR", data + std::string{static_cast<char>(depth), static_cast<char>(color), 0, 0, 0});
}

std::string pack(const std::string& text) {
  uLongf size = compressBound(text.size());
  std::string packed(size, '\0');
  compress2(reinterpret_cast<Bytef*>(packed.data()), &size, reinterpret_cast<const Bytef*>(text.data()),
            text.size(), 9);
  packed.resize(size);
  return packed;
}

const std::string kSignature = "\x89PNG\r\n\x1a\n";
const std::string kEnd = chunk("IEND", "");

std::optional<ErrorKind> refusal(const std::string& bytes) {
  const std::vector<uint8_t> exact(bytes.begin(), bytes.end());
  return kind_of([&] { decode_image(exact); });
}

std::string png(uint32_t width, uint32_t height, int depth, int color, const std::string& rows,
                const std::string& between = "") {
  return kSignature + header_chunk(width, height, depth, color) + between + chunk("IDAT", pack(rows)) + kEnd;
}

TEST(HostileImage, EveryCutIsRefused) {
  for (const char* name :
       {"RGBA.png", "palette2.png", "rgb16_interlaced.png", "text.png", "rgb420.jpg", "progressive.jpg",
        "cmyk.jpg", "lossy.webp", "lossless.webp", "comment_unicode.webp"}) {
    const std::vector<uint8_t> whole = load(name);
    // Up to the end marker a picture may be complete; from the last 16 bytes on, cuts may be harmless in
    // JPEG.
    const size_t slack = std::string(name).ends_with(".jpg") ? 2 : 1;
    for (size_t bytes = 0; bytes + slack <= whole.size(); ++bytes) {
      const auto kind =
          refusal(std::string(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(bytes)));
      ASSERT_TRUE(kind == ErrorKind::Corrupt || (bytes < 12 && kind == ErrorKind::Unsupported))
          << name << " " << bytes;
    }
  }
}

TEST(HostileImage, EveryFlippedBytePassesOrIsRefused) {
  std::mt19937 random(11);
  for (const char* name :
       {"RGBA.png", "palette4.png", "text.png", "rgb_interlaced.png", "rgb420.jpg", "exif6.jpg",
        "progressive.jpg", "cmyk.jpg", "lossy.webp", "alpha.webp", "animated.webp", "comment_little.webp"}) {
    const std::vector<uint8_t> whole = load(name);
    for (size_t i = 0; i < whole.size(); ++i) {
      std::vector<uint8_t> broken = whole;
      broken[i] ^= static_cast<uint8_t>(1 + random() % 255);
      try {
        decode_image(broken);
      } catch (const Error&) {
      }
    }
  }
}

TEST(HostileImage, TheHeaderSaysTheSizeOfWhateverDecodes) {
  std::mt19937 random(11);
  for (const char* name :
       {"exif6.jpg", "exif.png", "alpha.webp", "lossy.webp", "rgb420.jpg", "palette4.png"}) {
    const std::vector<uint8_t> whole = load(name);
    for (int round = 0; round < 300; ++round) {
      std::vector<uint8_t> bytes = whole;
      if (round % 3 == 0) bytes.resize(random() % bytes.size());
      if (round % 3 > 0)
        bytes[random() % std::min<size_t>(bytes.size(), 200)] = static_cast<uint8_t>(random());
      PictureSize decoded, read;
      const auto refused = kind_of([&] {
        const Image image = decode_image(bytes);
        decoded = {image.height, image.width};
      });
      const auto header_refused = kind_of([&] { read = read_image_size(bytes); });
      if (!refused) {
        EXPECT_EQ(header_refused, std::nullopt) << name << " " << round;
        EXPECT_EQ(read, decoded) << name << " " << round;
      } else if (header_refused) {
        EXPECT_EQ(header_refused, refused) << name << " " << round;
      }
    }
  }
}

TEST(HostileImage, ChecksumsCount) {
  const std::vector<uint8_t> whole = load("text.png");
  for (const std::string type : {"IHDR", "IDAT", "tEXt", "iTXt"}) {
    std::vector<uint8_t> broken = whole;
    const auto at = std::search(broken.begin(), broken.end(), type.begin(), type.end());
    ASSERT_NE(at, broken.end());
    const size_t length = static_cast<size_t>(at[-1]) | static_cast<size_t>(at[-2]) << 8;
    at[static_cast<std::ptrdiff_t>(4 + length)] ^= 1;
    EXPECT_EQ(kind_of([&] { decode_image(broken); }), ErrorKind::Corrupt) << type;
  }
}

TEST(HostileImage, HugeSizesAreRefusedBeforeMemoryIsAskedFor) {
  const std::string row(100, '\0');
  EXPECT_EQ(refusal(png(0x80000000u, 1, 8, 2, row)), ErrorKind::Unsupported);
  EXPECT_EQ(refusal(png(0xffffffffu, 0xffffffffu, 8, 2, row)), ErrorKind::Unsupported);
  EXPECT_EQ(refusal(png(0x7fffffffu, 0x7fffffffu, 8, 2, row)), ErrorKind::Unsupported);
  EXPECT_EQ(refusal(png(8193, 8192, 8, 2, row)), ErrorKind::Unsupported);
  EXPECT_EQ(refusal(png(8192, 8192, 8, 2, row)), ErrorKind::Corrupt) << "the file is too short for it";
  EXPECT_EQ(refusal(png(0, 5, 8, 2, row)), ErrorKind::Corrupt);

  // A JPEG and a WebP whose headers lie.
  std::vector<uint8_t> jpeg = load("rgb444.jpg");
  const uint8_t frame[2] = {0xff, 0xc0};
  const auto sof = std::search(jpeg.begin(), jpeg.end(), frame, frame + 2);
  ASSERT_NE(sof, jpeg.end());
  sof[5] = sof[7] = 0xff;
  EXPECT_EQ(kind_of([&] { decode_image(jpeg); }), ErrorKind::Unsupported);
  sof[6] = sof[8] = 0xff;
  EXPECT_EQ(kind_of([&] { decode_image(jpeg); }), ErrorKind::Corrupt) << "past the format's own limit";
  sof[5] = sof[7] = 0x1f;
  EXPECT_EQ(kind_of([&] { decode_image(jpeg); }), ErrorKind::Corrupt);
  std::vector<uint8_t> webp = load("animated.webp");
  for (size_t i = 24; i < 30; ++i) webp[i] = 0xff;
  EXPECT_NE(kind_of([&] { decode_image(webp); }), std::nullopt);
}

TEST(Image, ReadsAPictureOfOneColourThatPacksWell) {
  Image image = make_image(3000, 2000, 3);
  std::ranges::fill(image.pixels, uint8_t{77});
  for (const ImageFormat format : {ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Webp}) {
    EXPECT_LE(largest_difference(decode_image(encode_image(image, format)).pixels, image.pixels), 1);
  }
}

TEST(HostileImage, PaletteIndicesAreChecked) {
  const std::string palette = chunk("PLTE", "rgbRGB");
  EXPECT_EQ(refusal(png(3, 1, 8, 3, std::string("\0\0\1\0", 4), palette)), std::nullopt);
  EXPECT_EQ(refusal(png(3, 1, 8, 3, std::string("\0\0\2\0", 4), palette)), ErrorKind::Corrupt);
  EXPECT_EQ(refusal(png(3, 1, 4, 3, std::string("\0\1\xf0", 3), palette)), ErrorKind::Corrupt);
  EXPECT_EQ(refusal(png(3, 1, 8, 3, std::string("\0\0\1\0", 4))), ErrorKind::Corrupt) << "no palette";
}

TEST(HostileImage, TextBombsAreBounded) {
  const std::string rows("\0\1\2\3", 4);
  const std::string bomb = pack(std::string(60'000'000, 'x'));
  EXPECT_EQ(refusal(png(1, 1, 8, 2, rows, chunk("zTXt", std::string("k\0\0", 3) + bomb))),
            ErrorKind::Corrupt);
  EXPECT_EQ(refusal(png(1, 1, 8, 2, rows, chunk("iTXt", std::string("k\0\1\0\0\0", 6) + bomb))),
            ErrorKind::Corrupt);
  // Many that are small enough one by one.
  const std::string part = pack(std::string(1'000'000, 'x'));
  std::string many;
  for (int i = 0; i < 20; ++i) many += chunk("zTXt", fmt::format("k{}", i) + std::string(2, '\0') + part);
  EXPECT_EQ(refusal(png(1, 1, 8, 2, rows, many)), ErrorKind::Corrupt);
  std::string tiny;
  for (int i = 0; i < 20'000; ++i) tiny += chunk("tEXt", std::string("k\0", 2));
  EXPECT_EQ(refusal(png(1, 1, 8, 2, rows, tiny)), ErrorKind::Corrupt);
  // A colour profile that would unpack to 60 MB is not unpacked at all.
  EXPECT_EQ(refusal(png(1, 1, 8, 2, rows, chunk("iCCP", std::string("k\0\0", 3) + bomb))), std::nullopt);
}

TEST(HostileImage, BrokenTextIsRefused) {
  const std::string rows("\0\1\2\3", 4);
  const auto with = [&](const std::string& type, const std::string& data) {
    return refusal(png(1, 1, 8, 2, rows, chunk(type, data)));
  };
  EXPECT_EQ(with("tEXt", "no separator"), ErrorKind::Corrupt);
  EXPECT_EQ(with("zTXt", std::string("k\0\0not packed", 13)), ErrorKind::Corrupt);
  EXPECT_EQ(with("zTXt", std::string("k\0\1", 3) + pack("x")), ErrorKind::Corrupt);
  EXPECT_EQ(with("zTXt", std::string("k\0\0", 3) + pack("some text").substr(0, 8)), ErrorKind::Corrupt);
  EXPECT_EQ(with("iTXt", std::string("k\0\0\0\0", 5)), ErrorKind::Corrupt);
  EXPECT_EQ(with("iTXt", std::string("k\0\0\0\0\0\xff", 7)), ErrorKind::Corrupt);
}

TEST(HostileImage, RowsThatEndEarlyAreRefused) {
  EXPECT_EQ(refusal(png(4, 4, 8, 2, std::string(20, '\0'))), ErrorKind::Corrupt);
  EXPECT_EQ(refusal(png(4, 4, 8, 2, std::string(52, '\x09'))), ErrorKind::Corrupt) << "unknown row filter";
}

TEST(HostileImage, ABrokenExifKeepsThePicture) {
  const std::string rows("\0\1\2\3", 4);
  for (const std::string& exif : {std::string("MM"), std::string("MM\0*\xff\xff\xff\xff", 8),
                                  std::string("II*\0\x08\0\0\0\xff\xff", 10)}) {
    EXPECT_EQ(refusal(png(1, 1, 8, 2, rows, chunk("eXIf", exif))), std::nullopt);
  }
}

}  // namespace
}  // namespace sinopia
