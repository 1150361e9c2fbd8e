// The transforms of minimal filtering: included once per instruction set, after foreach_target.h.
#if defined(SINOPIA_BACKEND_CPU_WINOGRAD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SINOPIA_BACKEND_CPU_WINOGRAD_INL_H_
#undef SINOPIA_BACKEND_CPU_WINOGRAD_INL_H_
#else
#define SINOPIA_BACKEND_CPU_WINOGRAD_INL_H_
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sinopia {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// The three transforms along one axis; tiles of T outputs from T + 2 inputs. Those ending in Back are the
/// transposes of the other two, which gradients of weights take.
template <int T>
struct Axis;

template <>
struct Axis<2> {
  template <class D, class V>
  static HWY_INLINE void Input(D, const V* x, V* v) {
    v[0] = hn::Sub(x[0], x[2]);
    v[1] = hn::Add(x[1], x[2]);
    v[2] = hn::Sub(x[2], x[1]);
    v[3] = hn::Sub(x[3], x[1]);
  }
  template <class D, class V>
  static HWY_INLINE void Weights(D d, const V* w, V* u) {
    const V half = hn::Set(d, 0.5f), even = hn::Mul(hn::Add(w[0], w[2]), half);
    u[0] = w[0];
    u[1] = hn::MulAdd(half, w[1], even);
    u[2] = hn::NegMulAdd(half, w[1], even);
    u[3] = w[2];
  }
  template <class D, class V>
  static HWY_INLINE void Output(D, const V* m, V* y) {
    y[0] = hn::Add(m[0], hn::Add(m[1], m[2]));
    y[1] = hn::Add(hn::Sub(m[1], m[2]), m[3]);
  }
  template <class D, class V>
  static HWY_INLINE void OutputBack(D, const V* y, V* m) {
    m[0] = y[0];
    m[1] = hn::Add(y[0], y[1]);
    m[2] = hn::Sub(y[0], y[1]);
    m[3] = y[1];
  }
  template <class D, class V>
  static HWY_INLINE void WeightsBack(D d, const V* u, V* w) {
    const V half = hn::Set(d, 0.5f), even = hn::Mul(hn::Add(u[1], u[2]), half);
    w[0] = hn::Add(u[0], even);
    w[1] = hn::Mul(hn::Sub(u[1], u[2]), half);
    w[2] = hn::Add(even, u[3]);
  }
};

// a = sqrt(1/2), b = sqrt(2), polynomial x (x^2 - 1/2) (x^2 - 2).
template <>
struct Axis<4> {
  static constexpr float kA = 0.707106781f, kB = 1.41421356f;
  template <class D, class V>
  static HWY_INLINE void Input(D d, const V* x, V* v) {
    const V c = hn::Set(d, 2.5f), two = hn::Set(d, 2.0f), half = hn::Set(d, 0.5f);
    const V a = hn::Set(d, kA), b = hn::Set(d, kB);
    const V even_a = hn::NegMulAdd(two, x[2], x[4]), odd_a = hn::NegMulAdd(two, x[1], x[3]);
    const V even_b = hn::NegMulAdd(half, x[2], x[4]), odd_b = hn::NegMulAdd(half, x[1], x[3]);
    v[0] = hn::NegMulAdd(c, x[2], hn::Add(x[0], x[4]));
    v[1] = hn::MulAdd(a, odd_a, even_a);
    v[2] = hn::NegMulAdd(a, odd_a, even_a);
    v[3] = hn::MulAdd(b, odd_b, even_b);
    v[4] = hn::NegMulAdd(b, odd_b, even_b);
    v[5] = hn::NegMulAdd(c, x[3], hn::Add(x[1], x[5]));
  }
  template <class D, class V>
  static HWY_INLINE void Weights(D d, const V* w, V* u) {
    const V scale_a = hn::Set(d, -2.0f / 3), scale_b = hn::Set(d, 1.0f / 6);
    const V even_a = hn::Mul(hn::MulAdd(hn::Set(d, 0.5f), w[2], w[0]), scale_a);
    const V even_b = hn::Mul(hn::MulAdd(hn::Set(d, 2.0f), w[2], w[0]), scale_b);
    const V a = hn::Set(d, kA * (-2.0f / 3)), b = hn::Set(d, kB / 6);
    u[0] = w[0];
    u[1] = hn::MulAdd(a, w[1], even_a);
    u[2] = hn::NegMulAdd(a, w[1], even_a);
    u[3] = hn::MulAdd(b, w[1], even_b);
    u[4] = hn::NegMulAdd(b, w[1], even_b);
    u[5] = w[2];
  }
  template <class D, class V>
  static HWY_INLINE void Output(D d, const V* m, V* y) {
    const V half = hn::Set(d, 0.5f), two = hn::Set(d, 2.0f);
    const V sum_a = hn::Add(m[1], m[2]), sum_b = hn::Add(m[3], m[4]);
    const V odd_a = hn::Mul(hn::Set(d, kA), hn::Sub(m[1], m[2]));
    const V odd_b = hn::Mul(hn::Set(d, kB), hn::Sub(m[3], m[4]));
    y[0] = hn::Add(m[0], hn::Add(sum_a, sum_b));
    y[1] = hn::Add(odd_a, odd_b);
    y[2] = hn::MulAdd(half, sum_a, hn::Mul(two, sum_b));
    y[3] = hn::MulAdd(half, odd_a, hn::MulAdd(two, odd_b, m[5]));
  }
  template <class D, class V>
  static HWY_INLINE void OutputBack(D d, const V* y, V* m) {
    const V half = hn::Set(d, 0.5f), two = hn::Set(d, 2.0f), a = hn::Set(d, kA), b = hn::Set(d, kB);
    const V even_a = hn::MulAdd(half, y[2], y[0]), odd_a = hn::MulAdd(half, y[3], y[1]);
    const V even_b = hn::MulAdd(two, y[2], y[0]), odd_b = hn::MulAdd(two, y[3], y[1]);
    m[0] = y[0];
    m[1] = hn::MulAdd(a, odd_a, even_a);
    m[2] = hn::NegMulAdd(a, odd_a, even_a);
    m[3] = hn::MulAdd(b, odd_b, even_b);
    m[4] = hn::NegMulAdd(b, odd_b, even_b);
    m[5] = y[3];
  }
  template <class D, class V>
  static HWY_INLINE void WeightsBack(D d, const V* u, V* w) {
    const V sum_a = hn::Mul(hn::Add(u[1], u[2]), hn::Set(d, -2.0f / 3));
    const V sum_b = hn::Mul(hn::Add(u[3], u[4]), hn::Set(d, 1.0f / 6));
    const V odd_a = hn::Mul(hn::Sub(u[1], u[2]), hn::Set(d, kA * (-2.0f / 3)));
    const V odd_b = hn::Mul(hn::Sub(u[3], u[4]), hn::Set(d, kB / 6));
    w[0] = hn::Add(u[0], hn::Add(sum_a, sum_b));
    w[1] = hn::Add(odd_a, odd_b);
    w[2] = hn::MulAdd(hn::Set(d, 0.5f), sum_a, hn::MulAdd(hn::Set(d, 2.0f), sum_b, u[5]));
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace sinopia
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
