#pragma once

#include <cstdint>
#include <span>

namespace sinopia::unicode {

/// Code points first..last.
struct Range {
  char32_t first, last;
};

/// Every step-th code point of first..last has the lower case c + delta.
struct LowerRange {
  char32_t first, last;
  int32_t step, delta;
};

// Sorted and disjoint. Lower case leaves out U+0130, the one code point that becomes two.
extern const std::span<const Range> kLetters;
extern const std::span<const Range> kNumbers;
extern const std::span<const LowerRange> kLower;

}  // namespace sinopia::unicode
