#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime.h>

namespace sinopia::cuda {

// Elements that are only moved are bits: units of 1, 2, 4, 8 or 16 bytes.

/// The largest unit that divides all of the addresses, lengths and steps whose bits were joined by |.
constexpr size_t widest_unit(uintptr_t bits) {
  size_t unit = 16;
  while (bits % unit != 0) unit /= 2;
  return unit;
}

/// f(Unit{}) with the unit of this many bytes, one of those.
template <class F>
void for_units(size_t bytes, F&& f) {
  switch (bytes) {
    case 1:
      return f(uint8_t{});
    case 2:
      return f(uint16_t{});
    case 4:
      return f(uint32_t{});
    case 8:
      return f(uint64_t{});
    default:
      return f(uint4{});
  }
}

}  // namespace sinopia::cuda
