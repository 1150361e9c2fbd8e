#include <algorithm>
#include <cmath>

#include "sinopia/backend/cpu/cast.h"
#include "sinopia/backend/cpu/cpu_kernels.h"
#include "sinopia/base/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sinopia/backend/cpu/layer_norm.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "sinopia/backend/cpu/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinopia {
namespace HWY_NAMESPACE {

template <class D>
HWY_INLINE void NormaliseAt(D d, size_t i, const float* x, float mean, float rest, float factor,
                            const float* w, const float* b, float* y) {
  auto v = hn::Sub(hn::Sub(hn::LoadU(d, x + i), hn::Set(d, mean)), hn::Set(d, rest));
  v = hn::Mul(v, hn::Set(d, factor));
  if (w && b) {
    v = hn::MulAdd(v, hn::LoadU(d, w + i), hn::LoadU(d, b + i));
  } else if (w) {
    v = hn::Mul(v, hn::LoadU(d, w + i));
  } else if (b) {
    v = hn::Add(v, hn::LoadU(d, b + i));
  }
  hn::StoreU(v, d, y + i);
}

void NormaliseRow(const float* x, float mean, float rest, float factor, const float* w, const float* b,
                  float* y, size_t n) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> d1;
  const size_t N = hn::Lanes(d);
  size_t i = 0;
  for (; i + N <= n; i += N) NormaliseAt(d, i, x, mean, rest, factor, w, b, y);
  for (; i < n; ++i) NormaliseAt(d1, i, x, mean, rest, factor, w, b, y);
}

void LayerNormRow(const float* x, const float* w, const float* b, float eps, float* y, size_t n) {
  // The mean in two parts, an f32 value near it and the rest: beside a large mean the result is as good as x.
  const double count = static_cast<double>(n);
  const float mean = static_cast<float>(SumOver(n, DifferenceTerm{x, 0.0f}) / count);
  const double rest = SumOver(n, DifferenceTerm{x, mean}) / count;
  const double variance = std::max(0.0, SumOver(n, SquareTerm{x, mean}) / count - rest * rest);
  const float factor = static_cast<float>(1.0 / std::sqrt(variance + static_cast<double>(eps)));
  NormaliseRow(x, mean, static_cast<float>(rest), factor, w, b, y, n);
}

void RmsNormRow(const float* x, const float* w, float eps, float* y, size_t n) {
  const double mean_square = SumOver(n, SquareTerm{x, 0.0f}) / static_cast<double>(n);
  const float factor = static_cast<float>(1.0 / std::sqrt(mean_square + static_cast<double>(eps)));
  NormaliseRow(x, 0.0f, 0.0f, factor, w, nullptr, y, n);
}

}  // namespace HWY_NAMESPACE
}  // namespace sinopia
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinopia {

HWY_EXPORT(LayerNormRow);
HWY_EXPORT(RmsNormRow);

namespace {

template <class Row>
void for_rows(const Tensor& x, Tensor& y, const Row& row) {
  if (x.numel() == 0) return;
  const int64_t D = x.dim(-1);
  const float* source = x.data<float>();
  float* target = y.data<float>();
  parallel_for(x.numel() / D, std::max<int64_t>(1, kMemoryGrain / D), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) row(source + i * D, target + i * D, static_cast<size_t>(D));
  });
}

const float* values(const Tensor& w) { return w.defined() ? w.data<float>() : nullptr; }

}  // namespace

void CpuKernels::layer_norm(const Tensor& x, const Tensor& w, const Tensor& b, float eps, Tensor& y) {
  const Tensor weight = widened(w), bias = widened(b);
  for_rows(x, y, [&](const float* source, float* target, size_t n) {
    HWY_DYNAMIC_DISPATCH(LayerNormRow)(source, values(weight), values(bias), eps, target, n);
  });
}

void CpuKernels::rms_norm(const Tensor& x, const Tensor& w, float eps, Tensor& y) {
  const Tensor weight = widened(w);
  for_rows(x, y, [&](const float* source, float* target, size_t n) {
    HWY_DYNAMIC_DISPATCH(RmsNormRow)(source, values(weight), eps, target, n);
  });
}

}  // namespace sinopia
#endif  // HWY_ONCE
