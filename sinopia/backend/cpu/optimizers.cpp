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

#ifndef SINOPIA_BACKEND_CPU_OPTIMIZERS_CPP_
#define SINOPIA_BACKEND_CPU_OPTIMIZERS_CPP_
namespace sinopia {

// The constants of a step, rounded once.
struct AdamwFactors {
  float keep, scale, beta2, fresh1, fresh2, rate, inverse_root, eps;
};
struct LionFactors {
  float keep, scale, beta1, beta2, fresh1, fresh2, rate;
};

}  // namespace sinopia
#endif

HWY_BEFORE_NAMESPACE();
namespace sinopia {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// op(d, i) for whole vectors, then one by one: each lane alike, so that cuts leave no trace.
template <class Op>
void ForRun(size_t n, const Op& op) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> d1;
  const size_t N = hn::Lanes(d);
  size_t i = 0;
  for (; i + N <= n; i += N) op(d, i);
  for (; i < n; ++i) op(d1, i);
}

void AdamwRun(const AdamwFactors& f, const float* gradient, float* w, float* m, float* v, size_t n) {
  ForRun(n, [=](auto d, size_t i) HWY_ATTR {
    const auto g = hn::Mul(hn::LoadU(d, gradient + i), hn::Set(d, f.scale));
    const auto old = hn::LoadU(d, m + i);
    const auto mean = hn::MulAdd(hn::Sub(g, old), hn::Set(d, f.fresh1), old);
    const auto square =
        hn::MulAdd(hn::Mul(g, g), hn::Set(d, f.fresh2), hn::Mul(hn::LoadU(d, v + i), hn::Set(d, f.beta2)));
    const auto root = hn::MulAdd(hn::Sqrt(square), hn::Set(d, f.inverse_root), hn::Set(d, f.eps));
    const auto kept = hn::Mul(hn::LoadU(d, w + i), hn::Set(d, f.keep));
    hn::StoreU(mean, d, m + i);
    hn::StoreU(square, d, v + i);
    hn::StoreU(hn::NegMulAdd(hn::Div(mean, root), hn::Set(d, f.rate), kept), d, w + i);
  });
}

void LionRun(const LionFactors& f, const float* gradient, float* w, float* m, size_t n) {
  ForRun(n, [=](auto d, size_t i) HWY_ATTR {
    const auto g = hn::Mul(hn::LoadU(d, gradient + i), hn::Set(d, f.scale));
    const auto old = hn::LoadU(d, m + i);
    const auto direction = hn::Add(hn::Mul(old, hn::Set(d, f.beta1)), hn::Mul(g, hn::Set(d, f.fresh1)));
    const auto rate = hn::CopySign(hn::Set(d, f.rate), direction);
    const auto kept = hn::Mul(hn::LoadU(d, w + i), hn::Set(d, f.keep));
    const auto still = hn::Eq(direction, hn::Zero(d));
    hn::StoreU(hn::Add(hn::Mul(old, hn::Set(d, f.beta2)), hn::Mul(g, hn::Set(d, f.fresh2))), d, m + i);
    hn::StoreU(hn::IfThenElse(still, kept, hn::Sub(kept, rate)), d, w + i);
  });
}

void AddScaledRun(const float* x, float scale, float* y, size_t n) {
  ForRun(n, [=](auto d, size_t i) HWY_ATTR {
    hn::StoreU(hn::MulAdd(hn::LoadU(d, x + i), hn::Set(d, scale), hn::LoadU(d, y + i)), d, y + i);
  });
}

void BlendRun(const float* x, float weight, float* y, size_t n) {
  ForRun(n, [=](auto d, size_t i) HWY_ATTR {
    const auto old = hn::LoadU(d, y + i);
    hn::StoreU(hn::NegMulAdd(hn::Sub(old, hn::LoadU(d, x + i)), hn::Set(d, weight), old), d, y + i);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace sinopia
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinopia {

HWY_EXPORT(AdamwRun);
HWY_EXPORT(LionRun);
HWY_EXPORT(AddScaledRun);
HWY_EXPORT(BlendRun);

void CpuKernels::add_scaled(const Tensor& x, float scale, Tensor& y) {
  const float* source = x.data<float>();
  float* target = y.data<float>();
  parallel_for(x.numel(), kMemoryGrain, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(AddScaledRun)
    (source + begin, scale, target + begin, static_cast<size_t>(end - begin));
  });
}

void CpuKernels::blend(const Tensor& x, float weight, Tensor& y) {
  const float* source = x.data<float>();
  float* target = y.data<float>();
  parallel_for(x.numel(), kMemoryGrain, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(BlendRun)(source + begin, weight, target + begin, static_cast<size_t>(end - begin));
  });
}

void CpuKernels::adamw(const OptimizerStep& step, const AdamwConstants& constants, const Tensor& gradient,
                       Tensor& w, Tensor& m, Tensor& v, Tensor& stored) {
  const double t = static_cast<double>(step.number), rate = step.learning_rate;
  const AdamwFactors factors{
      .keep = static_cast<float>(1 - rate * step.weight_decay),
      .scale = static_cast<float>(step.gradient_scale),
      .beta2 = static_cast<float>(constants.beta2),
      .fresh1 = static_cast<float>(1 - constants.beta1),
      .fresh2 = static_cast<float>(1 - constants.beta2),
      .rate = static_cast<float>(rate / (1 - std::pow(constants.beta1, t))),
      .inverse_root = static_cast<float>(1 / std::sqrt(1 - std::pow(constants.beta2, t))),
      .eps = static_cast<float>(constants.eps)};
  const float* g = gradient.data<float>();
  float *ws = w.data<float>(), *ms = m.data<float>(), *vs = v.data<float>();
  parallel_for(w.numel(), kMemoryGrain, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(AdamwRun)
    (factors, g + begin, ws + begin, ms + begin, vs + begin, static_cast<size_t>(end - begin));
  });
  if (stored) convert(w, stored);
}

void CpuKernels::lion(const OptimizerStep& step, const LionConstants& constants, const Tensor& gradient,
                      Tensor& w, Tensor& m, Tensor& stored) {
  const LionFactors factors{.keep = static_cast<float>(1 - step.learning_rate * step.weight_decay),
                            .scale = static_cast<float>(step.gradient_scale),
                            .beta1 = static_cast<float>(constants.beta1),
                            .beta2 = static_cast<float>(constants.beta2),
                            .fresh1 = static_cast<float>(1 - constants.beta1),
                            .fresh2 = static_cast<float>(1 - constants.beta2),
                            .rate = static_cast<float>(step.learning_rate)};
  const float* g = gradient.data<float>();
  float *ws = w.data<float>(), *ms = m.data<float>();
  parallel_for(w.numel(), kMemoryGrain, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(LionRun)
    (factors, g + begin, ws + begin, ms + begin, static_cast<size_t>(end - begin));
  });
  if (stored) convert(w, stored);
}

}  // namespace sinopia
#endif  // HWY_ONCE
