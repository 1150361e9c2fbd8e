#include <cstring>

#include "sinopia/backend/cpu/quantised.h"
#include "sinopia/base/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sinopia/backend/cpu/dequantise.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sinopia {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// The shortest run with a scale of its own is 16.
using F = hn::CappedTag<float, 16>;
using I = hn::Rebind<int32_t, F>;
using Bytes = hn::Rebind<uint8_t, F>;
using SignedBytes = hn::Rebind<int8_t, F>;

HWY_INLINE hn::Vec<I> Load(const uint8_t* p) { return hn::PromoteTo(I(), hn::LoadU(Bytes(), p)); }
HWY_INLINE hn::Vec<I> Load(const int8_t* p) { return hn::PromoteTo(I(), hn::LoadU(SignedBytes(), p)); }
HWY_INLINE hn::Vec<I> Low(hn::Vec<I> v) { return hn::And(v, hn::Set(I(), 15)); }
HWY_INLINE hn::Vec<I> High(hn::Vec<I> v) { return hn::ShiftRight<4>(v); }
/// Bits of v from `shift` on, moved to bit 4.
HWY_INLINE hn::Vec<I> Above(hn::Vec<I> v, int shift, int mask) {
  return hn::ShiftLeft<4>(hn::And(hn::ShiftRightSame(v, shift), hn::Set(I(), mask)));
}

HWY_INLINE void Store(float scale, hn::Vec<I> q, float* to) {
  hn::StoreU(hn::Mul(hn::Set(F(), scale), hn::ConvertTo(F(), q)), F(), to);
}
HWY_INLINE void Store(float scale, hn::Vec<I> q, float min, float* to) {
  hn::StoreU(hn::Sub(hn::Mul(hn::Set(F(), scale), hn::ConvertTo(F(), q)), hn::Set(F(), min)), F(), to);
}

HWY_INLINE void Decode(const BlockQ8_0& block, float* to) {
  const float d = to_float(block.d);
  for (size_t i = 0; i < 32; i += hn::Lanes(F())) Store(d, Load(block.q + i), to + i);
}

HWY_INLINE void Decode(const BlockQ4_0& block, float* to) {
  const auto zero = hn::Set(I(), 8);
  const float d = to_float(block.d);
  for (size_t i = 0; i < 16; i += hn::Lanes(F())) {
    const auto q = Load(block.q + i);
    Store(d, hn::Sub(Low(q), zero), to + i);
    Store(d, hn::Sub(High(q), zero), to + 16 + i);
  }
}

template <class Block>
HWY_INLINE void DecodeWithMins(const Block& block, float* to) {
  const float d = to_float(block.d), dmin = to_float(block.dmin);
  const KScales s = KScales::unpack(block.scales);
  for (int j = 0; j < 8; j += 2) {
    const float d0 = d * s.scale[j], d1 = d * s.scale[j + 1];
    const float m0 = dmin * s.min[j], m1 = dmin * s.min[j + 1];
    for (size_t i = 0; i < 32; i += hn::Lanes(F())) {
      const auto q = Load(block.q + 16 * j + i);
      auto q0 = Low(q), q1 = High(q);
      if constexpr (std::is_same_v<Block, BlockQ5_K>) {
        const auto high = Load(block.high + i);
        q0 = hn::Or(q0, Above(high, j, 1));
        q1 = hn::Or(q1, Above(high, j + 1, 1));
      }
      Store(d0, q0, m0, to + 32 * j + i);
      Store(d1, q1, m1, to + 32 * j + 32 + i);
    }
  }
}
HWY_INLINE void Decode(const BlockQ4_K& block, float* to) { DecodeWithMins(block, to); }
HWY_INLINE void Decode(const BlockQ5_K& block, float* to) { DecodeWithMins(block, to); }

HWY_INLINE void Decode(const BlockQ6_K& block, float* to) {
  const auto zero = hn::Set(I(), 32);
  const float d = to_float(block.d);
  for (int half = 0; half < 2; ++half, to += 128) {
    const int8_t* scales = block.scales + 8 * half;
    for (size_t i = 0; i < 32; i += hn::Lanes(F())) {
      const auto a = Load(block.low + 64 * half + i), b = Load(block.low + 64 * half + 32 + i);
      const auto high = Load(block.high + 32 * half + i);
      const hn::Vec<I> low[4] = {Low(a), Low(b), High(a), High(b)};
      for (int g = 0; g < 4; ++g) {
        const auto q = hn::Sub(hn::Or(low[g], Above(high, 2 * g, 3)), zero);
        Store(d * static_cast<float>(scales[i / 16 + 2 * g]), q, to + 32 * g + i);
      }
    }
  }
}

template <class Block>
void DecodeRun(const void* blocks, int64_t elements, int64_t count, float* to) {
  const char* from = static_cast<const char*>(blocks);
  for (int64_t i = 0; i < count; i += elements, from += sizeof(Block)) {
    Block block;
    std::memcpy(&block, from, sizeof block);
    Decode(block, to + i);
  }
}

void Dequantise(DType dtype, const void* blocks, int64_t count, float* to) {
  const int64_t elements = block_elements(dtype);
  switch (dtype) {
    case DType::Q8_0:
      return DecodeRun<BlockQ8_0>(blocks, elements, count, to);
    case DType::Q6_K:
      return DecodeRun<BlockQ6_K>(blocks, elements, count, to);
    case DType::Q5_K:
      return DecodeRun<BlockQ5_K>(blocks, elements, count, to);
    case DType::Q4_K:
      return DecodeRun<BlockQ4_K>(blocks, elements, count, to);
    case DType::Q4_0:
      return DecodeRun<BlockQ4_0>(blocks, elements, count, to);
    default:
      fail(ErrorKind::Unsupported, "[cpu] expected a quantised type, got {}", to_string(dtype));
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sinopia
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinopia {

HWY_EXPORT(Dequantise);

void dequantise(DType dtype, const void* blocks, int64_t count, float* to) {
  HWY_DYNAMIC_DISPATCH(Dequantise)(dtype, blocks, count, to);
}

}  // namespace sinopia
#endif
