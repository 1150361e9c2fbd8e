#include "sinopia/io/png_text.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>

#include <zlib.h>

#include "sinopia/base/error.h"
#include "sinopia/io/unicode.h"

namespace sinopia {
namespace {

constexpr size_t kMaxTextBytes = size_t{8} << 20;
constexpr size_t kMaxTextChunks = 10'000;
constexpr size_t kMaxExifBytes = size_t{1} << 20;

uint32_t read_u32(const uint8_t* bytes) {
  return static_cast<uint32_t>(bytes[0]) << 24 | static_cast<uint32_t>(bytes[1]) << 16 |
         static_cast<uint32_t>(bytes[2]) << 8 | bytes[3];
}

// The part up to the next NUL, which is removed from `rest` with it.
std::string_view take_until_nul(std::string_view& rest) {
  const size_t nul = rest.find('\0');
  SINOPIA_CHECK(nul != std::string_view::npos, Corrupt, "[png] a text chunk without its separator");
  const std::string_view part = rest.substr(0, nul);
  rest.remove_prefix(nul + 1);
  return part;
}

std::string inflate_text(std::string_view packed, size_t max_bytes) {
  struct Inflater {
    z_stream stream{};
    Inflater() { SINOPIA_CHECK(inflateInit(&stream) == Z_OK, OutOfMemory, "[png] cannot start zlib"); }
    ~Inflater() { inflateEnd(&stream); }
  } inflater;
  z_stream& stream = inflater.stream;
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  std::string text;
  char buffer[16384];
  int state = Z_OK;
  while (state != Z_STREAM_END) {
    stream.next_out = reinterpret_cast<Bytef*>(buffer);
    stream.avail_out = sizeof buffer;
    state = inflate(&stream, Z_NO_FLUSH);
    SINOPIA_CHECK(state == Z_OK || state == Z_STREAM_END, Corrupt, "[png] a compressed text is broken");
    const size_t count = sizeof buffer - stream.avail_out;
    SINOPIA_CHECK(count <= max_bytes - text.size(), Corrupt, "[png] more than {} bytes of text",
                  kMaxTextBytes + 0);
    text.append(buffer, count);
  }
  return text;
}

struct Entry {
  std::string key, value;
};

Entry read_text(std::string_view type, std::string_view data, size_t max_bytes) {
  const std::string key = latin1_to_utf8(take_until_nul(data));
  const auto limited = [&](std::string_view text) {
    SINOPIA_CHECK(text.size() <= max_bytes, Corrupt, "[png] more than {} bytes of text", kMaxTextBytes + 0);
    return text;
  };
  if (type == "tEXt") return {key, latin1_to_utf8(limited(data))};
  if (type == "zTXt") {
    SINOPIA_CHECK(!data.empty() && data[0] == 0, Corrupt, "[png] unknown compression of text '{}'", key);
    return {key, latin1_to_utf8(inflate_text(data.substr(1), max_bytes))};
  }
  SINOPIA_CHECK(data.size() >= 2 && (data[0] == 0 || (data[0] == 1 && data[1] == 0)), Corrupt,
                "[png] unknown compression of text '{}'", key);
  const bool packed = data[0] == 1;
  data.remove_prefix(2);
  take_until_nul(data);  // language
  take_until_nul(data);  // translated key
  std::string value = packed ? inflate_text(data, max_bytes) : std::string(limited(data));
  SINOPIA_CHECK(is_utf8(value), Corrupt, "[png] text '{}' is not UTF-8", key);
  return {key, std::move(value)};
}

}  // namespace

PngExtras read_png_extras(std::span<const uint8_t> png) {
  PngExtras extras;
  size_t left = kMaxTextBytes;
  size_t chunks = 0;
  for (size_t at = 8; at < png.size();) {
    SINOPIA_CHECK(png.size() - at >= 12 && read_u32(&png[at]) <= png.size() - at - 12, Corrupt,
                  "[png] the file is cut off at byte {}", png.size());
    const size_t bytes = read_u32(&png[at]);
    const std::string_view type(reinterpret_cast<const char*>(&png[at + 4]), 4);
    const std::string_view data(type.data() + 4, bytes);
    at += 12 + bytes;
    if (type == "IEND") return extras;
    if (type == "tEXt" || type == "zTXt" || type == "iTXt") {
      SINOPIA_CHECK(++chunks <= kMaxTextChunks, Corrupt, "[png] more than {} text chunks",
                    kMaxTextChunks + 0);
      Entry entry = read_text(type, data, left);
      left -= std::min(left, entry.key.size() + entry.value.size());
      extras.text.insert_or_assign(std::move(entry.key), std::move(entry.value));
    } else if (type == "eXIf" && bytes <= kMaxExifBytes) {
      extras.exif.assign(data.begin(), data.end());
    }
  }
  fail(ErrorKind::Corrupt, "[png] the file is cut off at byte {}", png.size());
}

std::pair<const char*, std::string> make_png_text(const std::string& key, const std::string& value) {
  const std::optional<std::string> name = utf8_to_latin1(key);
  const auto is_printable = [](char c) {
    const auto byte = static_cast<uint8_t>(c);
    return (byte >= 32 && byte <= 126) || byte >= 161;
  };
  SINOPIA_CHECK(name && !name->empty() && name->size() <= 79 && std::ranges::all_of(*name, is_printable) &&
                    name->front() != ' ' && name->back() != ' ' && name->find("  ") == std::string::npos,
                InvalidArgument, "[png] '{}' cannot be the key of a text", key.substr(0, 100));
  SINOPIA_CHECK(value.find('\0') == std::string::npos && is_utf8(value), InvalidArgument,
                "[png] text '{}' holds a NUL or is not UTF-8", key);
  if (const auto latin1 = utf8_to_latin1(value)) return {"tEXt", *name + '\0' + *latin1};
  // Key, NUL, not compressed, method 0, empty language, empty translated key, text.
  return {"iTXt", *name + std::string(5, '\0') + value};
}

}  // namespace sinopia
