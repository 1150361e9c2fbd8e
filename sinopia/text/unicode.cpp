#include "sinopia/text/unicode.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/uniset.h>
#include <unicode/unistr.h>
#include <unicode/utf8.h>

#include "sinopia/base/error.h"
#include "sinopia/text/unicode_tables.h"

namespace sinopia::unicode {
namespace {

template <class Row>
const Row* find_row(std::span<const Row> rows, char32_t c) {
  const auto row = std::lower_bound(rows.begin(), rows.end(), c,
                                    [](const Row& entry, char32_t value) { return entry.last < value; });
  return row != rows.end() && row->first <= c ? &*row : nullptr;
}

bool is_ascii(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
}

void check_size(std::string_view text) {
  SINOPIA_CHECK(text.size() < static_cast<size_t>(std::numeric_limits<int32_t>::max()), InvalidArgument,
                "[unicode] expected less than 2 GiB of text, got {} bytes", text.size());
}

icu::UnicodeString from_utf8(std::string_view text) {
  return icu::UnicodeString::fromUTF8(icu::StringPiece(text.data(), static_cast<int32_t>(text.size())));
}

// Code points younger than Unicode 9.0 have no canonical properties for the normaliser that is followed here.
// The stability policy of Unicode fixes everything about the older ones.
class Nfc9 {
 public:
  static const Nfc9& instance() {
    static const Nfc9 nfc;
    return nfc;
  }

  icu::UnicodeString operator()(const icu::UnicodeString& text) const {
    UErrorCode status = U_ZERO_ERROR;
    icu::UnicodeString result;
    filtered_.normalize(in_canonical_order(text), result, status);
    SINOPIA_CHECK(U_SUCCESS(status), Backend, "[unicode] ICU failed to normalise: {}", u_errorName(status));
    return result;
  }

 private:
  Nfc9() : known_(known_code_points()), nfc_(nfc_instance()), filtered_(nfc_, known_) {}

  static icu::UnicodeSet known_code_points() {
    UErrorCode status = U_ZERO_ERROR;
    icu::UnicodeSet set(icu::UnicodeString("[:Age=9.0:]"), status);
    SINOPIA_CHECK(U_SUCCESS(status), Backend, "[unicode] ICU has no character ages: {}", u_errorName(status));
    set.freeze();
    return set;
  }

  static const icu::Normalizer2& nfc_instance() {
    UErrorCode status = U_ZERO_ERROR;
    const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(status);
    SINOPIA_CHECK(U_SUCCESS(status), Backend, "[unicode] ICU has no NFC data: {}", u_errorName(status));
    return *nfc;
  }

  // ICU sorts combining marks by insertion, in quadratic time for a hostile text: runs of them are sorted
  // first.
  icu::UnicodeString in_canonical_order(const icu::UnicodeString& text) const {
    struct Mark {
      UChar32 code_point;
      uint8_t combining_class;
    };
    icu::UnicodeString result;
    std::vector<Mark> marks;
    const auto flush = [&] {
      std::stable_sort(marks.begin(), marks.end(),
                       [](const Mark& a, const Mark& b) { return a.combining_class < b.combining_class; });
      for (const Mark& mark : marks) result.append(mark.code_point);
      marks.clear();
    };
    for (int32_t i = 0; i < text.length();) {
      const UChar32 c = text.char32At(i);
      i += U16_LENGTH(c);
      if (c < 0x300 || !known_.contains(c) ||
          !u_getIntPropertyValue(c, UCHAR_LEAD_CANONICAL_COMBINING_CLASS)) {
        flush();
        result.append(c);
        continue;
      }
      icu::UnicodeString parts;
      if (!nfc_.getDecomposition(c, parts)) parts.setTo(c);
      for (int32_t k = 0; k < parts.length();) {
        const UChar32 part = parts.char32At(k);
        k += U16_LENGTH(part);
        marks.push_back({part, u_getCombiningClass(part)});
      }
    }
    flush();
    return result;
  }

  icu::UnicodeSet known_;
  const icu::Normalizer2& nfc_;
  icu::FilteredNormalizer2 filtered_;
};

}  // namespace

bool is_letter(char32_t c) {
  if (c < 0x80) return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  return find_row(kLetters, c) != nullptr;
}

bool is_number(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  return find_row(kNumbers, c) != nullptr;
}

bool is_space(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
  return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
         c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool is_python_word(char32_t c) { return c == '_' || is_letter(c) || is_number(c); }

bool is_python_space(char32_t c) { return is_space(c) || (c >= 0x1c && c <= 0x1f); }

char32_t next_code_point(std::string_view text, size_t& position) {
  UChar32 c;
  U8_NEXT_OR_FFFD(reinterpret_cast<const uint8_t*>(text.data()), position, text.size(), c);
  return static_cast<char32_t>(c);
}

char32_t previous_code_point(std::string_view text, size_t& position) {
  // ICU's backward macros want signed positions; a code point is never longer than four bytes.
  const size_t start = position - std::min<size_t>(position, 4);
  const std::string_view tail = text.substr(start, position - start);
  int32_t offset = static_cast<int32_t>(tail.size());
  UChar32 c;
  U8_PREV_OR_FFFD(reinterpret_cast<const uint8_t*>(tail.data()), 0, offset, c);
  position = start + static_cast<size_t>(offset);
  return static_cast<char32_t>(c);
}

void append_utf8(std::string& text, char32_t c) {
  uint8_t bytes[U8_MAX_LENGTH];
  int32_t length = 0;
  U8_APPEND_UNSAFE(bytes, length, static_cast<UChar32>(c));
  text.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(length));
}

std::string to_valid_utf8(std::string_view text) {
  if (is_ascii(text)) return std::string(text);
  check_size(text);
  std::string result;
  return from_utf8(text).toUTF8String(result);
}

std::string normalize_for_clip(std::string_view text) {
  check_size(text);
  std::string result;
  result.reserve(text.size());
  if (is_ascii(text)) {
    for (const char c : text) result += c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    return result;
  }
  const icu::UnicodeString composed = Nfc9::instance()(from_utf8(text));
  for (int32_t i = 0; i < composed.length();) {
    const UChar32 c = composed.char32At(i);
    i += U16_LENGTH(c);
    if (c == 0x130) {
      result += "i\u0307";
      continue;
    }
    const LowerRange* row = find_row(kLower, static_cast<char32_t>(c));
    const bool cased = row && (c - static_cast<int32_t>(row->first)) % row->step == 0;
    append_utf8(result, static_cast<char32_t>(cased ? c + row->delta : c));
  }
  return result;
}

}  // namespace sinopia::unicode
