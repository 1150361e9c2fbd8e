#pragma once

#include <type_traits>

#include "sinopia/backend/cpu/quantised.h"
#include "sinopia/backend/cuda/elements.h"

namespace sinopia::cuda {

// The same numbers, bit for bit, as cpu/dequantise.cpp, by runs of 8 neighbours: every run lies within one
// scale. Blocks begin at multiples of 2 bytes, those whose size is a multiple of 16 at multiples of 16.

inline constexpr int kDecoded = 8;  ///< elements of a run

template <class Block>
inline constexpr int kBlockElements =
    std::is_same_v<Block, BlockQ8_0> || std::is_same_v<Block, BlockQ4_0> ? 32 : 256;

__device__ inline float widen(Half x) { return widen(__ushort_as_half(x.bits)); }

/// 8 bytes, from a multiple of 2 on.
struct EightBytes {
  uint32_t words[2];

  __device__ explicit EightBytes(const void* from) {
    const auto* pairs = static_cast<const uint16_t*>(from);
    words[0] = pairs[0] | static_cast<uint32_t>(pairs[1]) << 16;
    words[1] = pairs[2] | static_cast<uint32_t>(pairs[3]) << 16;
  }
  __device__ explicit EightBytes(const uint2* from) : words{from->x, from->y} {}

  /// The number that byte i holds between `shift` and the bits of `mask` above it.
  __device__ int bits(int i, int shift, int mask) const {
    return static_cast<int>(words[i / 4] >> (8 * (i % 4) + shift)) & mask;
  }
  __device__ int number(int i) const { return static_cast<int8_t>(words[i / 4] >> (8 * (i % 4))); }
};

/// values = elements [at, at + 8) of the block; `at` is a multiple of 8.
__device__ inline void decode(const BlockQ8_0& block, int at, float (&values)[kDecoded]) {
  const float d = widen(block.d);
  const EightBytes q(block.q + at);
#pragma unroll
  for (int i = 0; i < kDecoded; ++i) values[i] = d * static_cast<float>(q.number(i));
}

__device__ inline void decode(const BlockQ4_0& block, int at, float (&values)[kDecoded]) {
  const float d = widen(block.d);
  const EightBytes q(block.q + at % 16);
  const int shift = at / 16 * 4;
#pragma unroll
  for (int i = 0; i < kDecoded; ++i) values[i] = d * static_cast<float>(q.bits(i, shift, 15) - 8);
}

template <class Block>
__device__ inline void decode_with_mins(const Block& block, int at, float (&values)[kDecoded]) {
  const int j = at / 32;  // the scale
  const uint8_t* s = block.scales;
  const int k = j % 4;
  int scale = s[k] & 63, min = s[4 + k] & 63;
  if (j >= 4) {
    scale = (s[8 + k] & 15) | (s[k] >> 6 << 4);
    min = (s[8 + k] >> 4) | (s[4 + k] >> 6 << 4);
  }
  const float d = widen(block.d) * static_cast<float>(scale);
  const float m = widen(block.dmin) * static_cast<float>(min);
  const EightBytes low(reinterpret_cast<const uint2*>(block.q + j / 2 * 32 + at % 32));
  int q[kDecoded];
#pragma unroll
  for (int i = 0; i < kDecoded; ++i) q[i] = low.bits(i, j % 2 * 4, 15);
  if constexpr (std::is_same_v<Block, BlockQ5_K>) {
    const EightBytes high(reinterpret_cast<const uint2*>(block.high + at % 32));
#pragma unroll
    for (int i = 0; i < kDecoded; ++i) q[i] |= high.bits(i, j, 1) << 4;
  }
#pragma unroll
  for (int i = 0; i < kDecoded; ++i) values[i] = d * static_cast<float>(q[i]) - m;
}
__device__ inline void decode(const BlockQ4_K& block, int at, float (&values)[kDecoded]) {
  decode_with_mins(block, at, values);
}
__device__ inline void decode(const BlockQ5_K& block, int at, float (&values)[kDecoded]) {
  decode_with_mins(block, at, values);
}

__device__ inline void decode(const BlockQ6_K& block, int at, float (&values)[kDecoded]) {
  const int half = at / 128, group = at / 32 % 4;
  const float d = widen(block.d) * static_cast<float>(block.scales[at / 16]);
  const EightBytes low(block.low + half * 64 + group % 2 * 32 + at % 32);
  const EightBytes high(block.high + half * 32 + at % 32);
#pragma unroll
  for (int i = 0; i < kDecoded; ++i) {
    const int q = (low.bits(i, group / 2 * 4, 15) | high.bits(i, group * 2, 3) << 4) - 32;
    values[i] = d * static_cast<float>(q);
  }
}

/// y[0,8) = the values rounded to T, in whole runs of 16 bytes: y is a multiple of that.
template <class T>
__device__ inline void store_run(T* y, const float (&values)[kDecoded]) {
  constexpr int kCount = 16 / sizeof(T);
#pragma unroll
  for (int i = 0; i < kDecoded; i += kCount) {
    Run<T, kCount> run;
#pragma unroll
    for (int k = 0; k < kCount; ++k) run.values[k] = narrow_to<T>(values[i + k]);
    *reinterpret_cast<Run<T, kCount>*>(y + i) = run;
  }
}

/// f(Block{}) with the block of a quantised dtype.
template <class F>
void for_blocks(DType dtype, F&& f) {
  switch (dtype) {
    case DType::Q8_0:
      return f(BlockQ8_0{});
    case DType::Q6_K:
      return f(BlockQ6_K{});
    case DType::Q5_K:
      return f(BlockQ5_K{});
    case DType::Q4_K:
      return f(BlockQ4_K{});
    case DType::Q4_0:
      return f(BlockQ4_0{});
    default:
      fail(ErrorKind::Unsupported, "[cuda] expected a quantised type, got {}", to_string(dtype));
  }
}

}  // namespace sinopia::cuda
