// Sums over a run of floats: included once per instruction set, after foreach_target.h.
#if defined(SINOPIA_BACKEND_CPU_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SINOPIA_BACKEND_CPU_ROWS_INL_H_
#undef SINOPIA_BACKEND_CPU_ROWS_INL_H_
#else
#define SINOPIA_BACKEND_CPU_ROWS_INL_H_
#endif

#include <algorithm>

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sinopia {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// The sum of term(d, i) over the vectors at i in [0,n): f32 sums of at most 1024 elements, added in double,
/// so that the relative error stays near 1e-7 for rows of any length.
template <class Term>
HWY_INLINE double SumOver(size_t n, const Term& term) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> d1;
  const size_t N = hn::Lanes(d);
  double total = 0;
  size_t i = 0;
  while (i + N <= n) {
    const size_t end = std::min(n, i + 1024);
    auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
    for (; i + 4 * N <= end; i += 4 * N) {
      s0 = hn::Add(s0, term(d, i));
      s1 = hn::Add(s1, term(d, i + N));
      s2 = hn::Add(s2, term(d, i + 2 * N));
      s3 = hn::Add(s3, term(d, i + 3 * N));
    }
    for (; i + N <= end; i += N) s0 = hn::Add(s0, term(d, i));
    total += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)))));
  }
  for (; i < n; ++i) total += static_cast<double>(hn::GetLane(term(d1, i)));
  return total;
}

/// x - shift
struct DifferenceTerm {
  const float* x;
  float shift;
  template <class D>
  HWY_INLINE hn::Vec<D> operator()(D d, size_t i) const {
    return hn::Sub(hn::LoadU(d, x + i), hn::Set(d, shift));
  }
};

/// (x - shift)^2
struct SquareTerm {
  const float* x;
  float shift;
  template <class D>
  HWY_INLINE hn::Vec<D> operator()(D d, size_t i) const {
    const auto v = hn::Sub(hn::LoadU(d, x + i), hn::Set(d, shift));
    return hn::Mul(v, v);
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace sinopia
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
