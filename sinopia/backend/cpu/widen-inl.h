// f16 and bf16 in memory, f32 in registers: included once per instruction set, after foreach_target.h.
#if defined(SINOPIA_BACKEND_CPU_WIDEN_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SINOPIA_BACKEND_CPU_WIDEN_INL_H_
#undef SINOPIA_BACKEND_CPU_WIDEN_INL_H_
#else
#define SINOPIA_BACKEND_CPU_WIDEN_INL_H_
#endif

#include <hwy/highway.h>

#include "sinopia/base/half.h"

HWY_BEFORE_NAMESPACE();
namespace sinopia {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Highway emulates f16 where the machine cannot convert it, but without infinities.
#if HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_SSSE3 || HWY_TARGET == HWY_EMU128 || HWY_TARGET == HWY_SCALAR
inline constexpr bool kHasHalf = false;
#else
inline constexpr bool kHasHalf = true;
#endif

/// Lanes(d) elements from p on, as f32; no alignment asked for.
template <class D>
HWY_INLINE hn::Vec<D> WidenLoad(D d, const float* p) {
  return hn::LoadU(d, p);
}
template <class D>
HWY_INLINE hn::Vec<D> WidenLoad(D d, const BFloat16* p) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::RebindToUnsigned<D> d32;
  const auto bits = hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, bits)));
}
template <class D>
HWY_INLINE hn::Vec<D> WidenLoad(D d, const Half* p) {
  if constexpr (kHasHalf) {
    const hn::Rebind<hwy::float16_t, D> d16;
    return hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(p)));
  } else {
    const hn::Rebind<uint16_t, D> d16;
    const hn::RebindToUnsigned<D> d32;
    const auto bits = hn::PromoteTo(d32, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p)));
    const auto sign = hn::ShiftLeft<16>(hn::And(bits, hn::Set(d32, 0x8000u)));
    const auto magnitude = hn::ShiftLeft<13>(hn::And(bits, hn::Set(d32, 0x7fffu)));
    // The product moves the exponent to f32's bias and makes subnormals normal, both exactly.
    const auto finite = hn::BitCast(d32, hn::Mul(hn::BitCast(d, magnitude), hn::Set(d, 0x1p112f)));
    const auto special = hn::Or(magnitude, hn::Set(d32, 0x7f800000u));
    const auto is_finite = hn::Lt(magnitude, hn::Set(d32, 0x7c00u << 13));
    return hn::BitCast(d, hn::Or(sign, hn::IfThenElse(is_finite, finite, special)));
  }
}

/// Stores f32 lanes rounded to nearest even.
template <class D>
HWY_INLINE void NarrowStore(D d, hn::Vec<D> v, float* p) {
  hn::StoreU(v, d, p);
}
template <class D>
HWY_INLINE void NarrowStore(D, hn::Vec<D> v, BFloat16* p) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::RebindToUnsigned<D> d32;
  const hn::RebindToSigned<D> di32;
  const auto bits = hn::BitCast(d32, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d32, 1u));
  const auto rounded = hn::Add(hn::Add(bits, hn::Set(d32, 0x7fffu)), odd);
  const auto quiet = hn::Or(bits, hn::Set(d32, 0x400000u));
  const auto upper = hn::ShiftRight<16>(hn::IfThenElse(hn::RebindMask(d32, hn::IsNaN(v)), quiet, rounded));
  hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di32, upper)), d16, reinterpret_cast<uint16_t*>(p));
}
template <class D>
HWY_INLINE void NarrowStore(D d, hn::Vec<D> v, Half* p) {
  if constexpr (kHasHalf) {
    const hn::Rebind<hwy::float16_t, D> d16;
    hn::StoreU(hn::DemoteTo(d16, v), d16, reinterpret_cast<hwy::float16_t*>(p));
  } else {
    float lanes[HWY_MAX_BYTES / sizeof(float)];
    hn::StoreU(v, d, lanes);
    for (size_t i = 0; i < hn::Lanes(d); ++i) p[i] = to_half(lanes[i]);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sinopia
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
