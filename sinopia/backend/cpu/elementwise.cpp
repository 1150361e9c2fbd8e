#include <cmath>

#include "sinopia/backend/cpu/cast.h"
#include "sinopia/backend/cpu/cpu_kernels.h"
#include "sinopia/base/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sinopia/backend/cpu/elementwise.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "sinopia/backend/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinopia {
namespace HWY_NAMESPACE {

template <class Op>
void Map(const Op& op, const float* x, float* y, size_t n) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> d1;
  const size_t N = hn::Lanes(d);
  size_t i = 0;
  for (; i + N <= n; i += N) hn::StoreU(op(d, hn::LoadU(d, x + i)), d, y + i);
  for (; i < n; ++i) hn::StoreU(op(d1, hn::LoadU(d1, x + i)), d1, y + i);
}

template <Activation kActivation>
struct ActivateOp {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    return Activate<kActivation>(d, x);
  }
};
struct LeakyReluOp {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    return hn::IfThenElse(hn::Gt(x, hn::Zero(d)), x, hn::Mul(x, hn::Set(d, kLeak)));
  }
};
struct ExpOp {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    return Exp(d, x);
  }
};
struct SqrtOp {
  template <class D, class V>
  HWY_INLINE V operator()(D, V x) const {
    return hn::Sqrt(x);
  }
};
struct AbsOp {
  template <class D, class V>
  HWY_INLINE V operator()(D, V x) const {
    return hn::Abs(x);
  }
};
struct SquareOp {
  template <class D, class V>
  HWY_INLINE V operator()(D, V x) const {
    return hn::Mul(x, x);
  }
};
struct AffineOp {
  float scale, shift;
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    return hn::Add(hn::Mul(x, hn::Set(d, scale)), hn::Set(d, shift));
  }
};
struct ClampOp {
  float low, high;
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    const V limited = hn::Min(hn::Max(x, hn::Set(d, low)), hn::Set(d, high));
    return hn::IfThenElse(hn::IsNaN(x), x, limited);
  }
};

void UnaryRun(UnaryOp op, const float* x, float* y, size_t n) {
  switch (op) {
    case UnaryOp::Silu:
      return Map(ActivateOp<Activation::Silu>(), x, y, n);
    case UnaryOp::Gelu:
      return Map(ActivateOp<Activation::Gelu>(), x, y, n);
    case UnaryOp::GeluTanh:
      return Map(ActivateOp<Activation::GeluTanh>(), x, y, n);
    case UnaryOp::QuickGelu:
      return Map(ActivateOp<Activation::QuickGelu>(), x, y, n);
    case UnaryOp::Relu:
      return Map(ActivateOp<Activation::Relu>(), x, y, n);
    case UnaryOp::LeakyRelu:
      return Map(LeakyReluOp(), x, y, n);
    case UnaryOp::Tanh:
      return Map(ActivateOp<Activation::Tanh>(), x, y, n);
    case UnaryOp::Sigmoid:
      return Map(ActivateOp<Activation::Sigmoid>(), x, y, n);
    case UnaryOp::Exp:
      return Map(ExpOp(), x, y, n);
    case UnaryOp::Sqrt:
      return Map(SqrtOp(), x, y, n);
    case UnaryOp::Abs:
      return Map(AbsOp(), x, y, n);
    case UnaryOp::Square:
      return Map(SquareOp(), x, y, n);
    case UnaryOp::Log:
      for (size_t i = 0; i < n; ++i) y[i] = std::log(x[i]);
      return;
  }
}
void AffineRun(float scale, float shift, const float* x, float* y, size_t n) {
  Map(AffineOp{scale, shift}, x, y, n);
}
void ClampRun(float low, float high, const float* x, float* y, size_t n) { Map(ClampOp{low, high}, x, y, n); }

void GegluRun(const float* x, float* y, size_t n) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> d1;
  const size_t N = hn::Lanes(d);
  size_t i = 0;
  for (; i + N <= n; i += N) {
    const auto gate = Activate<Activation::Gelu>(d, hn::LoadU(d, x + n + i));
    hn::StoreU(hn::Mul(hn::LoadU(d, x + i), gate), d, y + i);
  }
  for (; i < n; ++i) {
    const auto gate = Activate<Activation::Gelu>(d1, hn::LoadU(d1, x + n + i));
    hn::StoreU(hn::Mul(hn::LoadU(d1, x + i), gate), d1, y + i);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sinopia
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinopia {

HWY_EXPORT(UnaryRun);
HWY_EXPORT(AffineRun);
HWY_EXPORT(ClampRun);
HWY_EXPORT(GegluRun);

namespace {

template <class Run>
void for_runs(const Tensor& x, Tensor& y, int64_t grain, const Run& run) {
  const float* source = x.data<float>();
  float* target = y.data<float>();
  parallel_for(x.numel(), grain, [&](int64_t begin, int64_t end) {
    run(source + begin, target + begin, static_cast<size_t>(end - begin));
  });
}

}  // namespace

void CpuKernels::unary(UnaryOp op, const Tensor& x, Tensor& y) {
  for_runs(x, y, kMathGrain, [&](const float* source, float* target, size_t n) {
    HWY_DYNAMIC_DISPATCH(UnaryRun)(op, source, target, n);
  });
}

void CpuKernels::affine(const Tensor& x, float scale, float shift, Tensor& y) {
  for_runs(x, y, kMemoryGrain, [&](const float* source, float* target, size_t n) {
    HWY_DYNAMIC_DISPATCH(AffineRun)(scale, shift, source, target, n);
  });
}

void CpuKernels::clamp(const Tensor& x, float low, float high, Tensor& y) {
  for_runs(x, y, kMemoryGrain, [&](const float* source, float* target, size_t n) {
    HWY_DYNAMIC_DISPATCH(ClampRun)(low, high, source, target, n);
  });
}

void CpuKernels::geglu(const Tensor& x, Tensor& y) {
  const int64_t D = y.dim(-1);
  if (y.numel() == 0) return;
  const float* source = x.data<float>();
  float* target = y.data<float>();
  parallel_for(y.numel() / D, std::max<int64_t>(1, kMathGrain / D), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      HWY_DYNAMIC_DISPATCH(GegluRun)(source + row * 2 * D, target + row * D, static_cast<size_t>(D));
    }
  });
}

}  // namespace sinopia
#endif  // HWY_ONCE
