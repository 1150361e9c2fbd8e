#include "sinopia/io/exif.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>

#include "sinopia/io/unicode.h"

namespace sinopia {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kExifPrefix = "Exif\0\0"sv;
constexpr uint16_t kOrientationTag = 0x0112;
constexpr uint16_t kExifFolderTag = 0x8769;
constexpr uint16_t kUserCommentTag = 0x9286;

// A TIFF structure; every read says whether it stayed within the bytes.
class Tiff {
 public:
  explicit Tiff(std::string_view bytes) : bytes_(bytes), big_endian_(bytes.starts_with("MM")) {}

  std::optional<uint32_t> read(size_t at, size_t count) const {
    if (at > bytes_.size() || count > bytes_.size() - at) return std::nullopt;
    uint32_t value = 0;
    for (size_t i = 0; i < count; ++i) {
      const size_t place = big_endian_ ? at + i : at + count - 1 - i;
      value = value << 8 | static_cast<uint8_t>(bytes_[place]);
    }
    return value;
  }

  struct Field {
    size_t value_at;
    uint32_t type, count;
  };

  // The field of a tag in the directory at `folder`.
  std::optional<Field> find(size_t folder, uint16_t tag) const {
    const auto count = read(folder, 2);
    for (size_t i = 0; count && i < *count; ++i) {
      const size_t entry = folder + 2 + 12 * i;
      const auto entry_tag = read(entry, 2), type = read(entry + 2, 2), values = read(entry + 4, 4);
      if (!values) return std::nullopt;
      if (*entry_tag == tag) return Field{entry + 8, *type, *values};
    }
    return std::nullopt;
  }

  std::string_view bytes(size_t at, size_t count) const {
    return at <= bytes_.size() && count <= bytes_.size() - at ? bytes_.substr(at, count) : std::string_view();
  }
  bool big_endian() const { return big_endian_; }

 private:
  std::string_view bytes_;
  bool big_endian_;
};

std::string_view without_padding(std::string_view text) {
  const size_t last = text.find_last_not_of("\0 "sv);
  return text.substr(0, last == std::string_view::npos ? 0 : last + 1);
}

std::string read_utf16(std::string_view bytes) {
  if (bytes.starts_with("\xFE\xFF")) return utf16_to_utf8(bytes.substr(2), true);
  if (bytes.starts_with("\xFF\xFE")) return utf16_to_utf8(bytes.substr(2), false);
  // In most scripts the spaces and digits tell: their zero byte comes first in big endian.
  size_t zeros[2] = {0, 0};
  for (size_t i = 0; i < bytes.size(); ++i) zeros[i % 2] += bytes[i] == '\0';
  return utf16_to_utf8(bytes, zeros[0] >= zeros[1]);
}

std::string read_comment(std::string_view bytes) {
  constexpr size_t kPrefixBytes = 8;
  if (bytes.size() < kPrefixBytes) return {};
  const std::string_view prefix = bytes.substr(0, kPrefixBytes), text = bytes.substr(kPrefixBytes);
  if (prefix == "UNICODE\0"sv) return read_utf16(text);
  if (prefix != "ASCII\0\0\0"sv && prefix != "\0\0\0\0\0\0\0\0"sv) return {};
  const std::string_view trimmed = without_padding(text);
  return is_utf8(trimmed) ? std::string(trimmed) : latin1_to_utf8(trimmed);
}

void put(std::vector<uint8_t>& bytes, uint32_t value, int count) {
  for (int shift = 8 * (count - 1); shift >= 0; shift -= 8)
    bytes.push_back(static_cast<uint8_t>(value >> shift));
}

void put_field(std::vector<uint8_t>& bytes, uint16_t tag, uint32_t type, uint32_t count, uint32_t value) {
  put(bytes, tag, 2);
  put(bytes, type, 2);
  put(bytes, count, 4);
  put(bytes, value, 4);
}

}  // namespace

Exif parse_exif(std::span<const uint8_t> bytes) {
  Exif exif;
  std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.starts_with(kExifPrefix)) text.remove_prefix(kExifPrefix.size());
  if (!text.starts_with("MM\0*"sv) && !text.starts_with("II*\0"sv)) return exif;
  const Tiff tiff(text);
  const auto root = tiff.read(4, 4);
  if (!root) return exif;
  constexpr uint32_t kShort = 3;
  if (const auto field = tiff.find(*root, kOrientationTag);
      field && field->type == kShort && field->count == 1) {
    const auto value = tiff.read(field->value_at, 2);
    if (value && *value >= 1 && *value <= 8) exif.orientation = static_cast<int>(*value);
  }
  const auto folder = tiff.find(*root, kExifFolderTag);
  const auto folder_at = folder ? tiff.read(folder->value_at, 4) : std::nullopt;
  if (!folder_at) return exif;
  if (const auto field = tiff.find(*folder_at, kUserCommentTag)) {
    if (const auto at = tiff.read(field->value_at, 4))
      exif.user_comment = read_comment(tiff.bytes(*at, field->count));
  }
  return exif;
}

std::vector<uint8_t> make_exif(std::string_view user_comment) {
  const std::string comment = std::string("UNICODE\0"sv) + utf8_to_utf16be(user_comment);
  constexpr uint32_t kUndefined = 7, kLong = 4;
  constexpr uint32_t kRootAt = 8, kFolderBytes = 2 + 12 + 4;
  std::vector<uint8_t> bytes = {'M', 'M', 0, 42};
  put(bytes, kRootAt, 4);
  put(bytes, 1, 2);
  put_field(bytes, kExifFolderTag, kLong, 1, kRootAt + kFolderBytes);
  put(bytes, 0, 4);
  put(bytes, 1, 2);
  put_field(bytes, kUserCommentTag, kUndefined, static_cast<uint32_t>(comment.size()),
            kRootAt + 2 * kFolderBytes);
  put(bytes, 0, 4);
  bytes.insert(bytes.end(), comment.begin(), comment.end());
  return bytes;
}

Image apply_orientation(Image image, int orientation) {
  if (orientation <= 1 || orientation > 8) return image;
  const bool swapped = orientation >= 5;
  Image result = swapped ? make_image(image.height, image.width, image.channels)
                         : make_image(image.width, image.height, image.channels);
  const bool flip_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool flip_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  for (int y = 0; y < result.height; ++y) {
    for (int x = 0; x < result.width; ++x) {
      const int from_x = swapped ? y : x, from_y = swapped ? x : y;
      const uint8_t* from = image.pixel(flip_y ? image.height - 1 - from_y : from_y,
                                        flip_x ? image.width - 1 - from_x : from_x);
      std::copy_n(from, image.channels, result.pixel(y, x));
    }
  }
  result.text = std::move(image.text);
  return result;
}

PictureSize oriented_size(uint64_t width, uint64_t height, std::span<const uint8_t> exif) {
  constexpr int kFirstOnItsSide = 5;
  if (parse_exif(exif).orientation >= kFirstOnItsSide) std::swap(width, height);
  return {static_cast<int>(height), static_cast<int>(width)};
}

Image apply_exif(Image image, std::span<const uint8_t> bytes) {
  Exif exif = parse_exif(bytes);
  if (!exif.user_comment.empty()) image.text.try_emplace("parameters", std::move(exif.user_comment));
  return apply_orientation(std::move(image), exif.orientation);
}

}  // namespace sinopia
