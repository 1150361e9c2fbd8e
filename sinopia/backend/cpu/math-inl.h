// Vector maths of the Highway kernels: included once per instruction set, after foreach_target.h.
#if defined(SINOPIA_BACKEND_CPU_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SINOPIA_BACKEND_CPU_MATH_INL_H_
#undef SINOPIA_BACKEND_CPU_MATH_INL_H_
#else
#define SINOPIA_BACKEND_CPU_MATH_INL_H_
#endif

#include <hwy/highway.h>

#include "sinopia/backend/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace sinopia {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// What a leaky ReLU leaves of negative numbers.
inline constexpr float kLeak = 0.2f;

// All functions take f32 vectors of any size, give NaN for NaN, and treat each lane alike, so that a result
// does not depend on where an element stands. The polynomials are minimax fits of our own.

/// e^x within 1 ulp: 0 below -104, subnormals above, infinity from 88.73 on.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Exp(D d, V x) {
  const hn::RebindToSigned<D> di;
  const V limited = hn::Min(hn::Max(x, hn::Set(d, -104.0f)), hn::Set(d, 89.0f));
  const auto n = hn::NearestInt(hn::Mul(limited, hn::Set(d, 1.44269504f)));
  const V nf = hn::ConvertTo(d, n);
  // ln 2 in two parts; the first has so few bits that its product with n is exact.
  V r = hn::NegMulAdd(nf, hn::Set(d, 0.693359375f), limited);
  r = hn::NegMulAdd(nf, hn::Set(d, -2.12194440e-4f), r);
  V p = hn::MulAdd(hn::Set(d, 0.0013813142f), r, hn::Set(d, 0.008369419f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.041668456f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.16666515f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.49999994f));
  const V y = hn::Add(hn::Set(d, 1.0f), hn::MulAdd(hn::Mul(r, r), p, r));
  // 2^n in two factors: n reaches -150 and 128, one factor only -126 to 127.
  const auto half = hn::ShiftRight<1>(n);
  const auto bias = hn::Set(di, 127);
  const V scale1 = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(half, bias)));
  const V scale2 = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::Sub(n, half), bias)));
  return hn::IfThenElse(hn::IsNaN(x), x, hn::Mul(hn::Mul(y, scale1), scale2));
}

/// 1 / (1 + e^-x) within 3 ulp, also where it nears 0.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Sigmoid(D d, V x) {
  const V one = hn::Set(d, 1.0f);
  const V e = Exp(d, hn::Neg(hn::Abs(x)));
  return hn::Div(hn::IfThenElse(hn::Lt(x, hn::Zero(d)), e, one), hn::Add(one, e));
}

/// Within 3 ulp.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Tanh(D d, V x) {
  const V one = hn::Set(d, 1.0f);
  const V magnitude = hn::Abs(x);
  const V z = hn::Mul(x, x);
  V p = hn::MulAdd(hn::Set(d, -0.0057049785f), z, hn::Set(d, 0.020639079f));
  p = hn::MulAdd(p, z, hn::Set(d, -0.05373971f));
  p = hn::MulAdd(p, z, hn::Set(d, 0.13331442f));
  p = hn::MulAdd(p, z, hn::Set(d, -0.3333328f));
  const V small = hn::MulAdd(hn::Mul(x, z), p, x);
  const V two = hn::Set(d, 2.0f);
  const V large = hn::Sub(one, hn::Div(two, hn::Add(one, Exp(d, hn::Mul(two, magnitude)))));
  return hn::IfThenElse(hn::Lt(magnitude, hn::Set(d, 0.625f)), small, hn::CopySign(large, x));
}

/// Within 3 ulp.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Erf(D d, V x) {
  const V magnitude = hn::Abs(x);
  const V z = hn::Mul(x, x);
  V p = hn::MulAdd(hn::Set(d, -0.0006090358f), z, hn::Set(d, 0.0050119623f));
  p = hn::MulAdd(p, z, hn::Set(d, -0.026778908f));
  p = hn::MulAdd(p, z, hn::Set(d, 0.11282141f));
  p = hn::MulAdd(p, z, hn::Set(d, -0.37612525f));
  p = hn::MulAdd(p, z, hn::Set(d, 1.1283791f));
  const V small = hn::Mul(x, p);
  // log(1 - erf) is nearly a parabola; past 4 erf rounds to 1.
  const V t = hn::Min(magnitude, hn::Set(d, 4.0f));
  V q = hn::MulAdd(hn::Set(d, 0.0001982207f), t, hn::Set(d, -0.0030654997f));
  q = hn::MulAdd(q, t, hn::Set(d, 0.022315249f));
  q = hn::MulAdd(q, t, hn::Set(d, -0.10411374f));
  q = hn::MulAdd(q, t, hn::Set(d, -0.636976f));
  q = hn::MulAdd(q, t, hn::Set(d, -1.1277972f));
  q = hn::MulAdd(q, t, hn::Set(d, -0.00016643909f));
  const V large = hn::CopySign(hn::Sub(hn::Set(d, 1.0f), Exp(d, q)), x);
  // NaN is not above the limit, so it takes the polynomial, which keeps it.
  return hn::IfThenElse(hn::Gt(magnitude, hn::Set(d, 0.9f)), large, small);
}

/// One activation, chosen when compiling: for the body of a loop.
template <Activation kActivation, class D, class V = hn::Vec<D>>
HWY_INLINE V Activate(D d, V x) {
  if constexpr (kActivation == Activation::Silu) {
    return hn::Mul(x, Sigmoid(d, x));
  } else if constexpr (kActivation == Activation::Gelu) {
    return hn::Mul(hn::Mul(x, hn::Set(d, 0.5f)),
                   hn::Add(hn::Set(d, 1.0f), Erf(d, hn::Mul(x, hn::Set(d, 0.70710678f)))));
  } else if constexpr (kActivation == Activation::GeluTanh) {
    // (1 + tanh u) / 2 = sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3)
    const V inner = hn::MulAdd(hn::Mul(x, x), hn::Set(d, 0.044715f), hn::Set(d, 1.0f));
    return hn::Mul(x, Sigmoid(d, hn::Mul(hn::Mul(x, hn::Set(d, 1.59576912f)), inner)));
  } else if constexpr (kActivation == Activation::QuickGelu) {
    return hn::Mul(x, Sigmoid(d, hn::Mul(x, hn::Set(d, 1.702f))));
  } else if constexpr (kActivation == Activation::Relu) {
    return hn::IfThenZeroElse(hn::Lt(x, hn::Zero(d)), x);
  } else if constexpr (kActivation == Activation::Tanh) {
    return Tanh(d, x);
  } else if constexpr (kActivation == Activation::Sigmoid) {
    return Sigmoid(d, x);
  } else {
    return x;
  }
}

/// One activation, chosen for each vector: for an epilogue that is a small part of its loop.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Activate(D d, Activation activation, V x) {
  switch (activation) {
    case Activation::None:
      return x;
    case Activation::Silu:
      return Activate<Activation::Silu>(d, x);
    case Activation::Gelu:
      return Activate<Activation::Gelu>(d, x);
    case Activation::GeluTanh:
      return Activate<Activation::GeluTanh>(d, x);
    case Activation::QuickGelu:
      return Activate<Activation::QuickGelu>(d, x);
    case Activation::Relu:
      return Activate<Activation::Relu>(d, x);
    case Activation::Tanh:
      return Activate<Activation::Tanh>(d, x);
    case Activation::Sigmoid:
      return Activate<Activation::Sigmoid>(d, x);
  }
  return x;
}

}  // namespace HWY_NAMESPACE
}  // namespace sinopia
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
