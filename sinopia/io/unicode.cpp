#include "sinopia/io/unicode.h"

#include <cstdint>

namespace sinopia {
namespace {

constexpr char32_t kReplacement = 0xFFFD;

// The character at `at`, which moves past it; kInvalid, past one byte, where the bytes are not UTF-8.
constexpr char32_t kInvalid = 0xFFFFFFFF;

char32_t next_character(std::string_view text, size_t& at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t first = byte(at);
  if (first < 0x80) return text[at++];
  const int length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  char32_t value = first & (0x7Fu >> length);
  bool valid = first >= 0xC2 && first <= 0xF4 && text.size() - at >= static_cast<size_t>(length);
  for (int i = 1; valid && i < length; ++i) {
    const uint8_t next = byte(at + static_cast<size_t>(i));
    valid = (next & 0xC0u) == 0x80u;
    value = value << 6 | (next & 0x3Fu);
  }
  constexpr char32_t kSmallest[5] = {0, 0, 0x80, 0x800, 0x10000};
  if (!valid || value < kSmallest[length] || (value >= 0xD800 && value <= 0xDFFF) || value > 0x10FFFF) {
    ++at;
    return kInvalid;
  }
  at += static_cast<size_t>(length);
  return value;
}

void append_utf8(std::string& text, char32_t c) {
  const auto put = [&](char32_t byte) { text += static_cast<char>(byte); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6);
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

}  // namespace

bool is_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    if (next_character(text, at) == kInvalid) return false;
  }
  return true;
}

std::string latin1_to_utf8(std::string_view text) {
  std::string result;
  for (const char c : text) append_utf8(result, static_cast<uint8_t>(c));
  return result;
}

std::optional<std::string> utf8_to_latin1(std::string_view text) {
  std::string result;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next_character(text, at);
    if (c > 0xFF) return std::nullopt;
    result += static_cast<char>(c);
  }
  return result;
}

std::string utf8_to_utf16be(std::string_view text) {
  std::string result;
  const auto put = [&](char32_t unit) {
    result += static_cast<char>(unit >> 8);
    result += static_cast<char>(unit & 0xFF);
  };
  for (size_t at = 0; at < text.size();) {
    char32_t c = next_character(text, at);
    if (c == kInvalid) c = kReplacement;
    if (c < 0x10000) {
      put(c);
    } else {
      put(0xD800 + ((c - 0x10000) >> 10));
      put(0xDC00 + ((c - 0x10000) & 0x3FF));
    }
  }
  return result;
}

std::string utf16_to_utf8(std::string_view bytes, bool big_endian) {
  const auto unit = [&](size_t i) -> char32_t {
    const auto a = static_cast<uint8_t>(bytes[i]), b = static_cast<uint8_t>(bytes[i + 1]);
    return static_cast<char32_t>(big_endian ? a << 8 | b : b << 8 | a);
  };
  std::string result;
  size_t i = 0;
  for (; i + 1 < bytes.size(); i += 2) {
    char32_t c = unit(i);
    if (c >= 0xD800 && c < 0xDC00 && i + 3 < bytes.size() && unit(i + 2) >= 0xDC00 && unit(i + 2) < 0xE000) {
      c = 0x10000 + ((c - 0xD800) << 10) + (unit(i + 2) - 0xDC00);
      i += 2;
    } else if (c >= 0xD800 && c < 0xE000) {
      c = kReplacement;
    }
    append_utf8(result, c);
  }
  if (i < bytes.size()) append_utf8(result, kReplacement);
  return result;
}

}  // namespace sinopia
