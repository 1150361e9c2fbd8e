#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace sinopia {

/// SHA-256 of FIPS 180-4.
std::array<uint8_t, 32> sha256(std::span<const uint8_t> bytes);

/// The same as 64 lower-case hexadecimal digits.
std::string sha256_hex(std::span<const uint8_t> bytes);
std::string sha256_hex_of_text(std::string_view text);

}  // namespace sinopia
