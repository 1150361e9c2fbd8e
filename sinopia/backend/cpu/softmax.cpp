#include <algorithm>
#include <limits>

#include "sinopia/backend/cpu/cast.h"
#include "sinopia/backend/cpu/cpu_kernels.h"
#include "sinopia/base/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sinopia/backend/cpu/softmax.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "sinopia/backend/cpu/math-inl.h"
#include "sinopia/backend/cpu/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinopia {
namespace HWY_NAMESPACE {

// A NaN may be lost here, but it comes back through the exponentials and their sum.
float RowMax(const float* x, size_t n) {
  const hn::ScalableTag<float> d;
  const size_t N = hn::Lanes(d);
  float result = -std::numeric_limits<float>::infinity();
  size_t i = 0;
  if (n >= N) {
    auto m = hn::LoadU(d, x);
    for (i = N; i + N <= n; i += N) m = hn::Max(m, hn::LoadU(d, x + i));
    result = hn::GetLane(hn::MaxOfLanes(d, m));
  }
  for (; i < n; ++i) result = std::max(result, x[i]);
  return result;
}

struct ExpTerm {
  const float* x;
  float max;
  float* y;
  template <class D>
  HWY_INLINE hn::Vec<D> operator()(D d, size_t i) const {
    const auto e = Exp(d, hn::Sub(hn::LoadU(d, x + i), hn::Set(d, max)));
    hn::StoreU(e, d, y + i);
    return e;
  }
};

void SoftmaxRow(const float* x, float* y, size_t n) {
  const hn::ScalableTag<float> d;
  const size_t N = hn::Lanes(d);
  const double sum = SumOver(n, ExpTerm{x, RowMax(x, n), y});
  const float factor = static_cast<float>(1.0 / sum);
  const auto v = hn::Set(d, factor);
  size_t i = 0;
  for (; i + N <= n; i += N) hn::StoreU(hn::Mul(hn::LoadU(d, y + i), v), d, y + i);
  for (; i < n; ++i) y[i] *= factor;
}

}  // namespace HWY_NAMESPACE
}  // namespace sinopia
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinopia {

HWY_EXPORT(SoftmaxRow);

void CpuKernels::softmax(const Tensor& x, Tensor& y) {
  if (x.numel() == 0) return;
  const int64_t D = x.dim(-1);
  const float* source = x.data<float>();
  float* target = y.data<float>();
  parallel_for(x.numel() / D, std::max<int64_t>(1, kMathGrain / D), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      HWY_DYNAMIC_DISPATCH(SoftmaxRow)(source + row * D, target + row * D, static_cast<size_t>(D));
    }
  });
}

}  // namespace sinopia
#endif  // HWY_ONCE
