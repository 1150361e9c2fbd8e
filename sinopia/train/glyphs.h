#pragma once

#include <array>
#include <cstdint>

namespace sinopia {

/// A letter of 5 x 7 squares: seven rows from the top, bit 4 leftmost. ASCII; what has no picture of its own,
/// and everything else, is an empty frame.
std::array<uint8_t, 7> glyph(char character);

}  // namespace sinopia
