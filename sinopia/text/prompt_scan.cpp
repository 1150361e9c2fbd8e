#include "sinopia/text/prompt_scan.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <string>

#include "sinopia/text/unicode.h"

namespace sinopia {

size_t skip_digits(std::string_view text, size_t position) {
  while (position < text.size() && text[position] >= '0' && text[position] <= '9') ++position;
  return position;
}

std::optional<double> parse_finite(std::string_view text) {
  if (!text.empty() && text.front() == '+') {
    text.remove_prefix(1);
    if (!text.empty() && text.front() == '-') return std::nullopt;
  }
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (end != text.data() + text.size()) return std::nullopt;
  if (error == std::errc::result_out_of_range) {
    // Too small is zero, too large is no number; which of the two it was, from_chars does not tell.
    const bool tiny = std::abs(std::strtod(std::string(text).c_str(), nullptr)) < 1;
    return tiny ? std::optional(0.0) : std::nullopt;
  }
  return error == std::errc() && std::isfinite(value) ? std::optional(value) : std::nullopt;
}

std::string_view trim_start(std::string_view text) {
  for (size_t next = 0; !text.empty(); next = 0) {
    if (!unicode::is_python_space(unicode::next_code_point(text, next))) break;
    text.remove_prefix(next);
  }
  return text;
}

std::string_view trim_end(std::string_view text) {
  for (size_t previous = text.size(); !text.empty(); previous = text.size()) {
    if (!unicode::is_python_space(unicode::previous_code_point(text, previous))) break;
    text.remove_suffix(text.size() - previous);
  }
  return text;
}

size_t find_word(std::string_view text, std::string_view word, size_t from) {
  for (size_t at = text.find(word, from); at != std::string_view::npos; at = text.find(word, at + 1)) {
    size_t before = at, after = at + word.size();
    if (before > 0 && unicode::is_python_word(unicode::previous_code_point(text, before))) continue;
    if (after < text.size() && unicode::is_python_word(unicode::next_code_point(text, after))) continue;
    return at;
  }
  return std::string_view::npos;
}

}  // namespace sinopia
