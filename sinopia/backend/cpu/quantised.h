#pragma once

#include <cstdint>

#include "sinopia/base/half.h"
#include "sinopia/tensor/dtype.h"

namespace sinopia {

// ggml's blocks as they lie in GGUF files. An element's value is
//   q8_0, q4_0   d q, q in [-127,127] and [-8,7]
//   q5_K, q4_K   (d scale) q - (dmin min), q in [0,31] and [0,15], a 6-bit scale and min for every 32
//   q6_K         (d scale) q, q in [-32,31], an 8-bit scale for every 16

struct BlockQ8_0 {
  Half d;
  int8_t q[32];
};

/// Byte i holds element i in its low half and i + 16 in its high one.
struct BlockQ4_0 {
  Half d;
  uint8_t q[16];
};

/// Byte 32 j + i holds element 64 j + i in its low half and 64 j + 32 + i in its high one; scales as in
/// KScales.
struct BlockQ4_K {
  Half d, dmin;
  uint8_t scales[12];
  uint8_t q[128];
};

/// The same with a fifth bit: bit s of high[i] is that of element 32 s + i.
struct BlockQ5_K {
  Half d, dmin;
  uint8_t scales[12];
  uint8_t high[32];
  uint8_t q[128];
};

/// In each half of 128 elements, byte i < 64 of `low` holds the low four bits of elements i and i + 64, and
/// bits 2 g of byte i < 32 of `high` the high two of element 32 g + i.
struct BlockQ6_K {
  uint8_t low[128];
  uint8_t high[64];
  int8_t scales[16];
  Half d;
};

static_assert(sizeof(BlockQ8_0) == 34 && sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_K) == 144 &&
              sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210);

/// The eight scales and mins of a q4_K or q5_K block, 6 bits each, and their 12 bytes: the first four of
/// both fill the low 6 bits of bytes 0-7; the last four lie in bytes 8-11 and the high 2 bits of the others.
struct KScales {
  uint8_t scale[8], min[8];

  static KScales unpack(const uint8_t* bytes) {
    KScales s;
    for (int i = 0; i < 4; ++i) {
      s.scale[i] = bytes[i] & 63;
      s.min[i] = bytes[4 + i] & 63;
      s.scale[4 + i] = static_cast<uint8_t>((bytes[8 + i] & 15) | (bytes[i] >> 6 << 4));
      s.min[4 + i] = static_cast<uint8_t>((bytes[8 + i] >> 4) | (bytes[4 + i] >> 6 << 4));
    }
    return s;
  }

  void pack(uint8_t* bytes) const {
    for (int i = 0; i < 4; ++i) {
      bytes[i] = static_cast<uint8_t>(scale[i] | (scale[4 + i] >> 4 << 6));
      bytes[4 + i] = static_cast<uint8_t>(min[i] | (min[4 + i] >> 4 << 6));
      bytes[8 + i] = static_cast<uint8_t>((scale[4 + i] & 15) | (min[4 + i] & 15) << 4);
    }
  }
};

/// Where element `i`, the first of a block, lies in a run of blocks.
inline const void* block_at(const void* blocks, DType dtype, int64_t i) {
  return static_cast<const char*>(blocks) +
         static_cast<size_t>(i / block_elements(dtype)) * block_bytes(dtype);
}

/// to[0,count) = the values of whole blocks, each product and sum rounded to f32 as the formulas above say.
/// The blocks need no alignment. `count` is a multiple of block_elements(dtype).
void dequantise(DType dtype, const void* blocks, int64_t count, float* to);

/// The reverse. q8_0 and q4_0 as ggml defines them; the others by a search for the scales with the least
/// weighted squared error. The same bits on every machine. Throws InvalidArgument for NaN and numbers beyond
/// f16's range.
void quantise(DType dtype, const float* from, int64_t count, void* blocks);

}  // namespace sinopia
