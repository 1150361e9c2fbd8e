#include <algorithm>
#include <cstring>

#include "sinopia/backend/cpu/cast.h"
#include "sinopia/backend/cpu/cpu_kernels.h"
#include "sinopia/backend/cpu/quantised.h"
#include "sinopia/base/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sinopia/backend/cpu/convert.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "sinopia/backend/cpu/widen-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinopia {
namespace HWY_NAMESPACE {

template <class From, class To>
void ConvertRun(const From* x, To* y, size_t n) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> d1;
  size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) NarrowStore(d, WidenLoad(d, x + i), y + i);
  for (; i < n; ++i) NarrowStore(d1, WidenLoad(d1, x + i), y + i);
}

void HalfToFloat(const Half* x, float* y, size_t n) { ConvertRun(x, y, n); }
void BFloat16ToFloat(const BFloat16* x, float* y, size_t n) { ConvertRun(x, y, n); }
void FloatToHalf(const float* x, Half* y, size_t n) { ConvertRun(x, y, n); }
void FloatToBFloat16(const float* x, BFloat16* y, size_t n) { ConvertRun(x, y, n); }
void BFloat16ToHalf(const BFloat16* x, Half* y, size_t n) { ConvertRun(x, y, n); }
void HalfToBFloat16(const Half* x, BFloat16* y, size_t n) { ConvertRun(x, y, n); }

}  // namespace HWY_NAMESPACE
}  // namespace sinopia
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinopia {

HWY_EXPORT(HalfToFloat);
HWY_EXPORT(BFloat16ToFloat);
HWY_EXPORT(FloatToHalf);
HWY_EXPORT(FloatToBFloat16);
HWY_EXPORT(BFloat16ToHalf);
HWY_EXPORT(HalfToBFloat16);

namespace {

void convert_run(const float* x, Half* y, size_t n) { HWY_DYNAMIC_DISPATCH(FloatToHalf)(x, y, n); }
void convert_run(const float* x, BFloat16* y, size_t n) { HWY_DYNAMIC_DISPATCH(FloatToBFloat16)(x, y, n); }
void convert_run(const Half* x, float* y, size_t n) { HWY_DYNAMIC_DISPATCH(HalfToFloat)(x, y, n); }
void convert_run(const Half* x, BFloat16* y, size_t n) { HWY_DYNAMIC_DISPATCH(HalfToBFloat16)(x, y, n); }
void convert_run(const BFloat16* x, float* y, size_t n) { HWY_DYNAMIC_DISPATCH(BFloat16ToFloat)(x, y, n); }
void convert_run(const BFloat16* x, Half* y, size_t n) { HWY_DYNAMIC_DISPATCH(BFloat16ToHalf)(x, y, n); }
template <class From, class To>
void convert_run(const From* x, To* y, size_t n) {
  if constexpr (std::is_same_v<From, To>) {
    std::memcpy(y, x, n * sizeof(From));
  } else {
    for (size_t i = 0; i < n; ++i) y[i] = cast_element<To>(x[i]);
  }
}

/// By way of f32, where neither is.
void convert_blocks(const Tensor& x, Tensor& y) {
  if (is_quantised(y.dtype())) {
    const Tensor wide = widened(x);
    const float* from = wide.data<float>();
    const int64_t block = block_elements(y.dtype());
    char* to = static_cast<char*>(y.raw());
    parallel_for(x.numel() / block, std::max<int64_t>(1, 2048 / block), [&](int64_t begin, int64_t end) {
      quantise(y.dtype(), from + begin * block, (end - begin) * block,
               to + static_cast<size_t>(begin) * block_bytes(y.dtype()));
    });
    return;
  }
  if (y.dtype() != DType::F32) return cpu_kernels().convert(widened(x), y);
  const int64_t block = block_elements(x.dtype());
  float* to = y.data<float>();
  parallel_for(x.numel() / block, kMemoryGrain / block, [&](int64_t begin, int64_t end) {
    dequantise(x.dtype(), block_at(x.raw(), x.dtype(), begin * block), (end - begin) * block,
               to + begin * block);
  });
}

}  // namespace

void CpuKernels::convert(const Tensor& x, Tensor& y) {
  if (is_quantised(x.dtype()) || is_quantised(y.dtype())) return convert_blocks(x, y);
  visit_dtype(x.dtype(), [&](auto from) {
    visit_dtype(y.dtype(), [&](auto to) {
      const auto* source = x.data<decltype(from)>();
      auto* target = y.data<decltype(to)>();
      parallel_for(x.numel(), kMemoryGrain, [&](int64_t begin, int64_t end) {
        convert_run(source + begin, target + begin, static_cast<size_t>(end - begin));
      });
    });
  });
}

Tensor widened(const Tensor& w) {
  if (!w.defined() || w.dtype() == DType::F32) return w;
  Tensor result = Tensor::empty(w.shape());
  cpu_kernels().convert(w, result);
  return result;
}

}  // namespace sinopia
#endif  // HWY_ONCE
