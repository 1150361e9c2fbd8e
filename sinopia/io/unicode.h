#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sinopia {

/// Whether the bytes are UTF-8 as RFC 3629 has it: shortest forms, no surrogates, nothing above U+10FFFF.
bool is_utf8(std::string_view text);

std::string latin1_to_utf8(std::string_view text);

/// Nothing if the text is not UTF-8 or holds a character above U+00FF.
std::optional<std::string> utf8_to_latin1(std::string_view text);

/// UTF-16, big endian, without a mark. Bytes that are not UTF-8 become U+FFFD.
std::string utf8_to_utf16be(std::string_view text);

/// From UTF-16 without a mark; lone surrogates and an odd last byte become U+FFFD.
std::string utf16_to_utf8(std::string_view bytes, bool big_endian);

}  // namespace sinopia
