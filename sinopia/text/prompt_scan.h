#pragma once

#include <optional>
#include <string_view>

namespace sinopia {

/// Where a run of decimal digits that starts at `position` ends.
size_t skip_digits(std::string_view text, size_t position);

/// A number with an optional sign, point and exponent that takes up all of `text`; nothing unless it is
/// finite.
std::optional<double> parse_finite(std::string_view text);

/// text without white space (Python's) at its start or at its end.
std::string_view trim_start(std::string_view text);
std::string_view trim_end(std::string_view text);

/// Where the word `word` (ASCII) next stands with no letter, digit or underscore around it; npos if nowhere.
size_t find_word(std::string_view text, std::string_view word, size_t from);

}  // namespace sinopia
