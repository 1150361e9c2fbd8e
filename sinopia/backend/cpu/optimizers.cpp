#include <algorithm>
#include <cmath>
#include <vector>

#include "sinopia/backend/cpu/cast.h"
#include "sinopia/backend/cpu/cpu_kernels.h"
#include "sinopia/base/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sinopia/backend/cpu/optimizers.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "sinopia/backend/cpu/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinopia {
namespace HWY_NAMESPACE {

/// Gives each vector of three arrays, and what is left one by one, to op(d, g, p, m).
template <class Op>
HWY_INLINE void ForEach(const Op& op, size_t n) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> d1;
  size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) op(d, i);
  for (; i < n; ++i) op(d1, i);
}

void AdamWRun(const AdamWStep& s, const float* gradient, float* parameter, float* mean, float* square,
              size_t n) {
  const auto decay = static_cast<float>(1 - s.learning_rate * s.weight_decay);
  const auto rest1 = static_cast<float>(1 - s.beta1), beta2 = static_cast<float>(s.beta2);
  const auto rest2 = static_cast<float>(1 - s.beta2), eps = static_cast<float>(s.eps);
  const auto size = static_cast<float>(s.learning_rate / s.correction1);
  const auto root = static_cast<float>(std::sqrt(s.correction2));
  ForEach(
      [&](auto d, size_t i) HWY_ATTR {
        const auto g = hn::Mul(hn::LoadU(d, gradient + i), hn::Set(d, s.gradient_scale));
        auto m = hn::LoadU(d, mean + i);
        m = hn::MulAdd(hn::Sub(g, m), hn::Set(d, rest1), m);
        const auto kept = hn::Mul(hn::LoadU(d, square + i), hn::Set(d, beta2));
        const auto v = hn::MulAdd(hn::Mul(g, g), hn::Set(d, rest2), kept);
        const auto deviation = hn::Add(hn::Div(hn::Sqrt(v), hn::Set(d, root)), hn::Set(d, eps));
        const auto p = hn::Mul(hn::LoadU(d, parameter + i), hn::Set(d, decay));
        hn::StoreU(hn::NegMulAdd(hn::Div(m, deviation), hn::Set(d, size), p), d, parameter + i);
        hn::StoreU(m, d, mean + i);
        hn::StoreU(v, d, square + i);
      },
      n);
}

void LionRun(const LionStep& s, const float* gradient, float* parameter, float* momentum, size_t n) {
  const auto decay = static_cast<float>(1 - s.learning_rate * s.weight_decay);
  const auto rest1 = static_cast<float>(1 - s.beta1), rest2 = static_cast<float>(1 - s.beta2);
  const auto size = static_cast<float>(s.learning_rate);
  ForEach(
      [&](auto d, size_t i) HWY_ATTR {
        const auto g = hn::Mul(hn::LoadU(d, gradient + i), hn::Set(d, s.gradient_scale));
        const auto m = hn::LoadU(d, momentum + i);
        const auto away = hn::Sub(g, m);
        const auto direction = hn::MulAdd(away, hn::Set(d, rest1), m);
        // The sign, and 0 of 0.
        const auto one = hn::CopySign(hn::Set(d, size), direction);
        const auto move = hn::IfThenZeroElse(hn::Eq(direction, hn::Zero(d)), one);
        const auto p = hn::Mul(hn::LoadU(d, parameter + i), hn::Set(d, decay));
        hn::StoreU(hn::Sub(p, move), d, parameter + i);
        hn::StoreU(hn::MulAdd(away, hn::Set(d, rest2), m), d, momentum + i);
      },
      n);
}

void ApproachRun(const float* from, float weight, float* to, size_t n) {
  ForEach(
      [&](auto d, size_t i) HWY_ATTR {
        const auto x = hn::LoadU(d, to + i);
        hn::StoreU(hn::MulAdd(hn::Sub(hn::LoadU(d, from + i), x), hn::Set(d, weight), x), d, to + i);
      },
      n);
}

double SquaresRun(const float* x, size_t n) { return SumOver(n, SquareTerm{x, 0.0f}); }

}  // namespace HWY_NAMESPACE
}  // namespace sinopia
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinopia {

HWY_EXPORT(AdamWRun);
HWY_EXPORT(LionRun);
HWY_EXPORT(ApproachRun);
HWY_EXPORT(SquaresRun);

namespace {

/// run(first, elements) on pieces that start at multiples of a vector, so that an element is treated alike
/// whatever the number of threads.
template <class Run>
void for_pieces(int64_t n, const Run& run) {
  const int64_t pieces = (n + kMemoryGrain - 1) / kMemoryGrain;
  parallel_for(pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t at = i * kMemoryGrain;
      run(at, static_cast<size_t>(std::min(kMemoryGrain, n - at)));
    }
  });
}

}  // namespace

void CpuKernels::adamw(const AdamWStep& step, const Tensor& gradient, Tensor& parameter, Tensor& mean,
                       Tensor& square) {
  for_pieces(parameter.numel(), [&](int64_t at, size_t n) {
    HWY_DYNAMIC_DISPATCH(AdamWRun)
    (step, gradient.data<float>() + at, parameter.data<float>() + at, mean.data<float>() + at,
     square.data<float>() + at, n);
  });
}

void CpuKernels::lion(const LionStep& step, const Tensor& gradient, Tensor& parameter, Tensor& momentum) {
  for_pieces(parameter.numel(), [&](int64_t at, size_t n) {
    HWY_DYNAMIC_DISPATCH(LionRun)
    (step, gradient.data<float>() + at, parameter.data<float>() + at, momentum.data<float>() + at, n);
  });
}

void CpuKernels::approach(const Tensor& from, float weight, Tensor& to) {
  for_pieces(to.numel(), [&](int64_t at, size_t n) {
    HWY_DYNAMIC_DISPATCH(ApproachRun)(from.data<float>() + at, weight, to.data<float>() + at, n);
  });
}

double CpuKernels::sum_of_squares(const Tensor& x) {
  std::vector<double> parts(static_cast<size_t>((x.numel() + kMemoryGrain - 1) / kMemoryGrain));
  for_pieces(x.numel(), [&](int64_t at, size_t n) {
    parts[static_cast<size_t>(at / kMemoryGrain)] = HWY_DYNAMIC_DISPATCH(SquaresRun)(x.data<float>() + at, n);
  });
  double sum = 0;
  for (const double part : parts) sum += part;
  return sum;
}

}  // namespace sinopia
#endif  // HWY_ONCE
