#include <algorithm>
#include <vector>

#include "sinopia/backend/axes.h"
#include "sinopia/backend/cpu/cast.h"
#include "sinopia/backend/cpu/cpu_kernels.h"
#include "sinopia/base/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sinopia/backend/cpu/binary.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sinopia {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <BinaryOp kOp, class V>
HWY_INLINE V Combine(V a, V b) {
  if constexpr (kOp == BinaryOp::Add) {
    return hn::Add(a, b);
  } else if constexpr (kOp == BinaryOp::Subtract) {
    return hn::Sub(a, b);
  } else if constexpr (kOp == BinaryOp::Multiply) {
    return hn::Mul(a, b);
  } else if constexpr (kOp == BinaryOp::Divide) {
    return hn::Div(a, b);
  } else {
    // A NaN on either side wins.
    const auto take_b = kOp == BinaryOp::Minimum ? hn::Lt(b, a) : hn::Lt(a, b);
    return hn::IfThenElse(hn::Or(take_b, hn::IsNaN(b)), b, a);
  }
}

// A step of 0 stands for one number against a whole run.
template <BinaryOp kOp>
void CombineRun(const float* a, bool a_steps, const float* b, bool b_steps, float* y, size_t n) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> d1;
  const size_t N = hn::Lanes(d);
  size_t i = 0;
  if (a_steps && b_steps) {
    for (; i + N <= n; i += N) hn::StoreU(Combine<kOp>(hn::LoadU(d, a + i), hn::LoadU(d, b + i)), d, y + i);
  } else if (a_steps) {
    const auto vb = hn::Set(d, *b);
    for (; i + N <= n; i += N) hn::StoreU(Combine<kOp>(hn::LoadU(d, a + i), vb), d, y + i);
  } else if (b_steps) {
    const auto va = hn::Set(d, *a);
    for (; i + N <= n; i += N) hn::StoreU(Combine<kOp>(va, hn::LoadU(d, b + i)), d, y + i);
  }
  for (; i < n; ++i) {
    const auto va = hn::LoadU(d1, a_steps ? a + i : a), vb = hn::LoadU(d1, b_steps ? b + i : b);
    hn::StoreU(Combine<kOp>(va, vb), d1, y + i);
  }
}

void BinaryRun(BinaryOp op, const float* a, bool a_steps, const float* b, bool b_steps, float* y, size_t n) {
  switch (op) {
    case BinaryOp::Add:
      return CombineRun<BinaryOp::Add>(a, a_steps, b, b_steps, y, n);
    case BinaryOp::Subtract:
      return CombineRun<BinaryOp::Subtract>(a, a_steps, b, b_steps, y, n);
    case BinaryOp::Multiply:
      return CombineRun<BinaryOp::Multiply>(a, a_steps, b, b_steps, y, n);
    case BinaryOp::Divide:
      return CombineRun<BinaryOp::Divide>(a, a_steps, b, b_steps, y, n);
    case BinaryOp::Minimum:
      return CombineRun<BinaryOp::Minimum>(a, a_steps, b, b_steps, y, n);
    case BinaryOp::Maximum:
      return CombineRun<BinaryOp::Maximum>(a, a_steps, b, b_steps, y, n);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sinopia
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinopia {

HWY_EXPORT(BinaryRun);

void CpuKernels::binary(BinaryOp op, const Tensor& a, const Tensor& b, Tensor& y) {
  const std::vector<BroadcastAxis> axes = broadcast_axes(a.shape(), b.shape(), y.shape());
  const BroadcastAxis inner = axes.front();
  const float *pa = a.data<float>(), *pb = b.data<float>();
  float* py = y.data<float>();
  parallel_for(y.numel(), kMemoryGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end;) {
      const int64_t at = i % inner.extent;
      const int64_t n = std::min(inner.extent - at, end - i);
      int64_t from_a = at * inner.a_step, from_b = at * inner.b_step, rest = i / inner.extent;
      for (size_t k = 1; k < axes.size(); ++k) {
        from_a += rest % axes[k].extent * axes[k].a_step;
        from_b += rest % axes[k].extent * axes[k].b_step;
        rest /= axes[k].extent;
      }
      HWY_DYNAMIC_DISPATCH(BinaryRun)
      (op, pa + from_a, inner.a_step != 0, pb + from_b, inner.b_step != 0, py + i, static_cast<size_t>(n));
      i += n;
    }
  });
}

}  // namespace sinopia
#endif  // HWY_ONCE
