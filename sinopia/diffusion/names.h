#pragma once

#include <algorithm>
#include <cctype>
#include <span>
#include <string>
#include <string_view>

#include "sinopia/base/error.h"

namespace sinopia {

/// Equal but for the case of ASCII letters.
inline bool same_name(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

/// The row of a registry whose name or one of whose aliases this is. Throws InvalidArgument naming the known
/// ones.
template <class Row>
const Row& find_by_name(std::span<const Row> rows, std::string_view name, std::string_view what) {
  std::string known;
  for (const Row& row : rows) {
    if (same_name(row.name, name)) return row;
    for (const std::string_view alias : row.aliases) {
      if (same_name(alias, name)) return row;
    }
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  fail(ErrorKind::InvalidArgument, "[diffusion] unknown {} \"{}\"; known are {}", what, name, known);
}

}  // namespace sinopia
