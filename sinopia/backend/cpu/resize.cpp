#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "sinopia/backend/cpu/cast.h"
#include "sinopia/backend/cpu/cpu_kernels.h"
#include "sinopia/base/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sinopia/backend/cpu/resize.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sinopia {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
HWY_INLINE void WeighAt(D d, size_t i, const float* x, const int64_t* offsets, const float* weights,
                        size_t taps, float* y) {
  auto sum = hn::Mul(hn::LoadU(d, x + offsets[0] + i), hn::Set(d, weights[0]));
  for (size_t t = 1; t < taps; ++t)
    sum = hn::MulAdd(hn::LoadU(d, x + offsets[t] + i), hn::Set(d, weights[t]), sum);
  hn::StoreU(sum, d, y + i);
}

// y[i] = sum over t of weights[t] * x[offsets[t] + i], i in [0,n)
void WeighRows(const float* x, const int64_t* offsets, const float* weights, size_t taps, float* y,
               size_t n) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> d1;
  size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) WeighAt(d, i, x, offsets, weights, taps, y);
  for (; i < n; ++i) WeighAt(d1, i, x, offsets, weights, taps, y);
}

// `count` outputs of C numbers each, with `taps` offsets and weights an output.
void WeighPixels(const float* x, const int64_t* offsets, const float* weights, size_t taps, float* y,
                 size_t count, size_t C) {
  for (size_t k = 0; k < count; ++k) WeighRows(x, offsets + k * taps, weights + k * taps, taps, y + k * C, C);
}

}  // namespace HWY_NAMESPACE
}  // namespace sinopia
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinopia {

HWY_EXPORT(WeighRows);
HWY_EXPORT(WeighPixels);

namespace {

// Which inputs make up each output along one axis: `taps` positions and weights an output.
struct AxisFilter {
  size_t taps = 1;
  std::vector<int64_t> positions;
  std::vector<float> weights;

  AxisFilter(size_t taps_, int64_t outputs)
      : taps(taps_), positions(taps_ * static_cast<size_t>(outputs)), weights(positions.size()) {}
  void set(int64_t output, size_t tap, int64_t position, float weight) {
    const size_t at = static_cast<size_t>(output) * taps + tap;
    positions[at] = position;
    weights[at] = weight;
  }
};

// Cubic convolution, Keys 1981, at distance t from the sample.
float cubic(float t, float a) {
  t = std::abs(t);
  if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  if (t < 2) return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a;
  return 0;
}

float triangle(float t) { return std::max(0.0f, 1 - std::abs(t)); }

AxisFilter nearest_filter(int64_t in, int64_t out) {
  AxisFilter filter(1, out);
  const float scale = static_cast<float>(in) / static_cast<float>(out);
  for (int64_t o = 0; o < out; ++o) {
    const auto position = static_cast<int64_t>(std::floor(static_cast<float>(o) * scale));
    filter.set(o, 0, std::min(position, in - 1), 1);
  }
  return filter;
}

AxisFilter area_filter(int64_t in, int64_t out) {
  size_t taps = 1;
  const auto begin = [&](int64_t o) { return o * in / out; };
  const auto end = [&](int64_t o) { return ((o + 1) * in + out - 1) / out; };
  for (int64_t o = 0; o < out; ++o) taps = std::max(taps, static_cast<size_t>(end(o) - begin(o)));
  AxisFilter filter(taps, out);
  for (int64_t o = 0; o < out; ++o) {
    const int64_t count = end(o) - begin(o);
    for (size_t t = 0; t < taps; ++t) {
      const bool used = static_cast<int64_t>(t) < count;
      filter.set(o, t, used ? begin(o) + static_cast<int64_t>(t) : begin(o),
                 used ? 1 / static_cast<float>(count) : 0);
    }
  }
  return filter;
}

// Two taps of a triangle or four of a cubic around the source position, edges clamped.
AxisFilter interpolating_filter(int64_t in, int64_t out, bool is_cubic) {
  AxisFilter filter(is_cubic ? 4 : 2, out);
  const float scale = static_cast<float>(in) / static_cast<float>(out);
  for (int64_t o = 0; o < out; ++o) {
    float position = scale * (static_cast<float>(o) + 0.5f) - 0.5f;
    if (!is_cubic) position = std::max(position, 0.0f);
    const float floor = std::floor(position), t = position - floor;
    const int64_t first = static_cast<int64_t>(floor) - (is_cubic ? 1 : 0);
    for (size_t k = 0; k < filter.taps; ++k) {
      const float distance = static_cast<float>(k) - t;
      const float weight = is_cubic ? cubic(distance - 1, -0.75f) : triangle(distance);
      filter.set(o, k, std::clamp<int64_t>(first + static_cast<int64_t>(k), 0, in - 1), weight);
    }
  }
  return filter;
}

// As Pillow does, which PyTorch follows: the filter is stretched by the scale when shrinking, cut at the
// edges, and its weights made to add up to one.
AxisFilter antialias_filter(int64_t in, int64_t out, bool is_cubic) {
  const float scale = static_cast<float>(in) / static_cast<float>(out);
  const float stretch = std::max(scale, 1.0f), support = (is_cubic ? 2.0f : 1.0f) * stretch;
  AxisFilter filter(static_cast<size_t>(std::ceil(support)) * 2 + 1, out);
  std::vector<float> weights(filter.taps);
  for (int64_t o = 0; o < out; ++o) {
    const float center = scale * (static_cast<float>(o) + 0.5f);
    const int64_t begin = std::max<int64_t>(static_cast<int64_t>(center - support + 0.5f), 0);
    const int64_t end = std::min<int64_t>(static_cast<int64_t>(center + support + 0.5f), in);
    const auto count = std::min(filter.taps, static_cast<size_t>(end - begin));
    float total = 0;
    for (size_t k = 0; k < count; ++k) {
      const float t = (static_cast<float>(static_cast<int64_t>(k) + begin) - center + 0.5f) / stretch;
      weights[k] = is_cubic ? cubic(t, -0.5f) : triangle(t);
      total += weights[k];
    }
    for (size_t k = 0; k < filter.taps; ++k) {
      filter.set(o, k, k < count ? begin + static_cast<int64_t>(k) : begin,
                 k < count ? weights[k] / total : 0);
    }
  }
  return filter;
}

AxisFilter axis_filter(ResizeFilter filter, bool antialias, int64_t in, int64_t out) {
  const bool is_cubic = filter == ResizeFilter::Bicubic;
  switch (filter) {
    case ResizeFilter::Nearest:
      return nearest_filter(in, out);
    case ResizeFilter::Area:
      return area_filter(in, out);
    default:
      return antialias ? antialias_filter(in, out, is_cubic) : interpolating_filter(in, out, is_cubic);
  }
}

void resize_nearest(const Tensor& x, const AxisFilter& rows, const AxisFilter& columns, Tensor& y) {
  const int64_t H = x.dim(1), W = x.dim(2), C = x.dim(3), OH = y.dim(1), OW = y.dim(2);
  parallel_for(y.dim(0) * OH, std::max<int64_t>(1, kMemoryGrain / (OW * C)), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* source =
          x.data<float>() + (i / OH * H + rows.positions[static_cast<size_t>(i % OH)]) * W * C;
      float* target = y.data<float>() + i * OW * C;
      for (int64_t o = 0; o < OW; ++o) {
        std::memcpy(target + o * C, source + columns.positions[static_cast<size_t>(o)] * C,
                    static_cast<size_t>(C) * sizeof(float));
      }
    }
  });
}

}  // namespace

void CpuKernels::resize(const Tensor& x, ResizeFilter filter, bool antialias, Tensor& y) {
  if (y.numel() == 0) return;
  const int64_t H = x.dim(1), W = x.dim(2), C = x.dim(3), OH = y.dim(1), OW = y.dim(2);
  AxisFilter rows = axis_filter(filter, antialias, H, OH), columns = axis_filter(filter, antialias, W, OW);
  if (filter == ResizeFilter::Nearest) return resize_nearest(x, rows, columns, y);
  for (int64_t& position : rows.positions) position *= W * C;
  for (int64_t& position : columns.positions) position *= C;
  const float* source = x.data<float>();
  float* target = y.data<float>();
  const int64_t work = W * C * static_cast<int64_t>(rows.taps);
  parallel_for(y.dim(0) * OH, std::max<int64_t>(1, kMemoryGrain / work), [&](int64_t begin, int64_t end) {
    std::vector<float> mixed(static_cast<size_t>(W * C));
    for (int64_t i = begin; i < end; ++i) {
      const size_t at = static_cast<size_t>(i % OH) * rows.taps;
      HWY_DYNAMIC_DISPATCH(WeighRows)
      (source + i / OH * H * W * C, &rows.positions[at], &rows.weights[at], rows.taps, mixed.data(),
       mixed.size());
      HWY_DYNAMIC_DISPATCH(WeighPixels)
      (mixed.data(), columns.positions.data(), columns.weights.data(), columns.taps, target + i * OW * C,
       static_cast<size_t>(OW), static_cast<size_t>(C));
    }
  });
}

}  // namespace sinopia
#endif  // HWY_ONCE
