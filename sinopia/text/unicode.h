#pragma once

#include <string>
#include <string_view>

namespace sinopia::unicode {

// The character classes of the `tokenizers` package, whatever Unicode version the ICU of this machine has.
bool is_letter(char32_t c);  ///< \p{L}
bool is_number(char32_t c);  ///< \p{N}
bool is_space(char32_t c);   ///< \s, the property White_Space

/// \w and \s of Python's regular expressions, which the prompt grammar is written in.
bool is_python_word(char32_t c);
bool is_python_space(char32_t c);

/// Reads one code point and moves `position` past it; U+FFFD for each ill-formed part.  position <
/// text.size().
char32_t next_code_point(std::string_view text, size_t& position);
/// The code point that ends before `position`, which is moved to its start.  position > 0.
char32_t previous_code_point(std::string_view text, size_t& position);
void append_utf8(std::string& text, char32_t c);

/// Valid UTF-8, with U+FFFD for each ill-formed part.  Throws InvalidArgument for 2 GiB or more.
std::string to_valid_utf8(std::string_view text);

/// NFC of Unicode 9.0, then the lower case of each code point by itself (no final sigma): the normaliser of
/// transformers' CLIP tokenizer. Ill-formed UTF-8 becomes U+FFFD.  Throws InvalidArgument for 2 GiB or more.
std::string normalize_for_clip(std::string_view text);

}  // namespace sinopia::unicode
