#include <algorithm>
#include <cmath>
#include <vector>

#include "sinopia/backend/cpu/cast.h"
#include "sinopia/backend/cpu/cpu_kernels.h"
#include "sinopia/backend/cpu/group_statistics.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sinopia/backend/cpu/group_norm.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "sinopia/backend/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinopia {
namespace HWY_NAMESPACE {

// Adds x - shift and (x - shift)^2 of kPixels neighbouring pixels to the sums of the channels from c on.
template <size_t kPixels, class D>
HWY_INLINE void AddPixels(D d, const float* x, size_t C, size_t c, const float* shift, float* sums,
                          float* squares) {
  const auto s = hn::LoadU(d, shift + c);
  auto sum = hn::LoadU(d, sums + c), square = hn::LoadU(d, squares + c);
  for (size_t p = 0; p < kPixels; ++p) {
    const auto v = hn::Sub(hn::LoadU(d, x + p * C + c), s);
    sum = hn::Add(sum, v);
    square = hn::MulAdd(v, v, square);
  }
  hn::StoreU(sum, d, sums + c);
  hn::StoreU(square, d, squares + c);
}

template <size_t kPixels>
HWY_INLINE void AddPixels(const float* x, size_t C, const float* shift, float* sums, float* squares) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> d1;
  size_t c = 0;
  for (; c + hn::Lanes(d) <= C; c += hn::Lanes(d)) AddPixels<kPixels>(d, x, C, c, shift, sums, squares);
  for (; c < C; ++c) AddPixels<kPixels>(d1, x, C, c, shift, sums, squares);
}

// sums[c] and squares[c] over `pixels` pixels of C channels.
void SumPixels(const float* x, size_t pixels, size_t C, const float* shift, float* sums, float* squares) {
  std::fill(sums, sums + C, 0.0f);
  std::fill(squares, squares + C, 0.0f);
  size_t p = 0;
  for (; p + 4 <= pixels; p += 4) AddPixels<4>(x + p * C, C, shift, sums, squares);
  for (; p < pixels; ++p) AddPixels<1>(x + p * C, C, shift, sums, squares);
}

template <Activation kActivation, class D>
HWY_INLINE void NormaliseAt(D d, size_t c, const float* x, const float* center, const float* scale,
                            const float* shift, float* y) {
  const auto v = hn::Sub(hn::LoadU(d, x + c), hn::LoadU(d, center + c));
  const auto scaled = hn::MulAdd(v, hn::LoadU(d, scale + c), hn::LoadU(d, shift + c));
  hn::StoreU(Activate<kActivation>(d, scaled), d, y + c);
}

template <Activation kActivation>
void NormaliseAs(const float* x, size_t pixels, size_t C, const float* center, const float* scale,
                 const float* shift, float* y) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> d1;
  for (size_t p = 0; p < pixels; ++p, x += C, y += C) {
    size_t c = 0;
    for (; c + hn::Lanes(d) <= C; c += hn::Lanes(d))
      NormaliseAt<kActivation>(d, c, x, center, scale, shift, y);
    for (; c < C; ++c) NormaliseAt<kActivation>(d1, c, x, center, scale, shift, y);
  }
}

// y = activation((x - center[c]) * scale[c] + shift[c])
void NormalisePixels(const float* x, size_t pixels, size_t C, const float* center, const float* scale,
                     const float* shift, Activation activation, float* y) {
  switch (activation) {
    case Activation::None:
      return NormaliseAs<Activation::None>(x, pixels, C, center, scale, shift, y);
    case Activation::Silu:
      return NormaliseAs<Activation::Silu>(x, pixels, C, center, scale, shift, y);
    case Activation::Gelu:
      return NormaliseAs<Activation::Gelu>(x, pixels, C, center, scale, shift, y);
    case Activation::GeluTanh:
      return NormaliseAs<Activation::GeluTanh>(x, pixels, C, center, scale, shift, y);
    case Activation::QuickGelu:
      return NormaliseAs<Activation::QuickGelu>(x, pixels, C, center, scale, shift, y);
    case Activation::Relu:
      return NormaliseAs<Activation::Relu>(x, pixels, C, center, scale, shift, y);
    case Activation::Tanh:
      return NormaliseAs<Activation::Tanh>(x, pixels, C, center, scale, shift, y);
    case Activation::Sigmoid:
      return NormaliseAs<Activation::Sigmoid>(x, pixels, C, center, scale, shift, y);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sinopia
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinopia {

HWY_EXPORT(SumPixels);
HWY_EXPORT(NormalisePixels);

namespace {

// Count, mean and sum of squared differences from the mean, of a part of a group.
struct Part {
  double count = 0, mean = 0, squares = 0;

  // Chan, Golub and LeVeque 1979.
  void merge(const Part& other) {
    const double total = count + other.count;
    const double difference = other.mean - mean;
    mean += difference * other.count / total;
    squares += other.squares + difference * difference * count * other.count / total;
    count = total;
  }
};

// The parts of all groups in one block of pixels. Sums are taken of x minus the mean of a sixteenth of the
// block's pixels: since these belong to the block, their distance from its mean is at most four of its
// deviations whatever they hold, so that little is lost where a mean is large. At most 256 numbers are added
// in f32.
constexpr int64_t kSampledPixels = 16;

void block_parts(const float* x, int64_t pixels, int64_t C, int64_t groups, Part* parts) {
  const int64_t width = C / groups, sampled = std::min(pixels, kSampledPixels), stride = pixels / sampled;
  thread_local std::vector<float> scratch;
  scratch.resize(static_cast<size_t>(3 * C));
  float *shift = scratch.data(), *sums = shift + C, *squares = sums + C;
  for (int64_t g = 0; g < groups; ++g) {
    double sum = 0;
    for (int64_t p = 0; p < sampled; ++p) {
      for (int64_t c = g * width; c < (g + 1) * width; ++c) sum += static_cast<double>(x[p * stride * C + c]);
    }
    std::fill(shift + g * width, shift + (g + 1) * width,
              static_cast<float>(sum / static_cast<double>(sampled * width)));
  }
  HWY_DYNAMIC_DISPATCH(SumPixels)
  (x, static_cast<size_t>(pixels), static_cast<size_t>(C), shift, sums, squares);
  for (int64_t g = 0; g < groups; ++g) {
    double sum = 0, square = 0;
    for (int64_t c = g * width; c < (g + 1) * width; ++c) {
      sum += static_cast<double>(sums[c]);
      square += static_cast<double>(squares[c]);
    }
    const double count = static_cast<double>(pixels * width);
    parts[g] = {count, static_cast<double>(shift[g * width]) + sum / count,
                std::max(0.0, square - sum * sum / count)};
  }
}

}  // namespace

std::vector<GroupStatistics> group_statistics(const Tensor& x, int groups, float eps) {
  const int64_t N = x.dim(0), C = x.dim(-1), P = x.numel() / (N * C);
  const float* source = x.data<float>();
  const int64_t blocks = (P + kBlockPixels - 1) / kBlockPixels;
  std::vector<Part> parts(static_cast<size_t>(N * blocks * groups));
  for_blocks(x, [&](int64_t n, int64_t p, int64_t pixels) {
    block_parts(source + (n * P + p) * C, pixels, C, groups,
                &parts[static_cast<size_t>((n * blocks + p / kBlockPixels) * groups)]);
  });
  std::vector<GroupStatistics> result;
  for (int64_t n = 0; n < N; ++n) {
    for (int64_t g = 0; g < groups; ++g) {
      Part all = parts[static_cast<size_t>(n * blocks * groups + g)];
      for (int64_t i = 1; i < blocks; ++i)
        all.merge(parts[static_cast<size_t>((n * blocks + i) * groups + g)]);
      result.push_back({all.mean, 1.0 / std::sqrt(all.squares / all.count + static_cast<double>(eps))});
    }
  }
  return result;
}

void CpuKernels::group_norm(const Tensor& x, int groups, const Tensor& w, const Tensor& b, float eps,
                            Activation activation, Tensor& y) {
  if (x.numel() == 0) return;
  const int64_t N = x.dim(0), C = x.dim(-1), P = x.numel() / (N * C), width = C / groups;
  const std::vector<GroupStatistics> statistics = group_statistics(x, groups, eps);

  // The mean is taken off in two parts, its f32 value and, within the shift, the rest: beside a large mean
  // the result is as good as x.
  const Tensor weight = widened(w), bias = widened(b);
  const auto NC = static_cast<size_t>(N * C);
  std::vector<float> center(NC), scale(NC), shift(NC);
  for (int64_t n = 0; n < N; ++n) {
    for (int64_t c = 0; c < C; ++c) {
      const auto at = static_cast<size_t>(n * C + c);
      const GroupStatistics& group = statistics[static_cast<size_t>(n * groups + c / width)];
      const double a =
          weight.defined() ? group.factor * static_cast<double>(weight.data<float>()[c]) : group.factor;
      const double offset = bias.defined() ? static_cast<double>(bias.data<float>()[c]) : 0.0;
      center[at] = static_cast<float>(group.mean);
      scale[at] = static_cast<float>(a);
      shift[at] = static_cast<float>(offset - (group.mean - static_cast<double>(center[at])) * a);
    }
  }

  for_blocks(x, [&](int64_t n, int64_t p, int64_t pixels) {
    const int64_t at = (n * P + p) * C;
    const auto first = static_cast<size_t>(n * C);
    HWY_DYNAMIC_DISPATCH(NormalisePixels)
    (x.data<float>() + at, static_cast<size_t>(pixels), static_cast<size_t>(C), &center[first], &scale[first],
     &shift[first], activation, y.data<float>() + at);
  });
}

}  // namespace sinopia
#endif  // HWY_ONCE
