#include <algorithm>
#include <cmath>
#include <vector>

#include "sinopia/backend/cpu/cast.h"
#include "sinopia/backend/cpu/cpu_kernels.h"
#include "sinopia/backend/cpu/group_statistics.h"
#include "sinopia/base/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sinopia/backend/cpu/norm_backward.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "sinopia/backend/cpu/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinopia {
namespace HWY_NAMESPACE {

/// body(d, i) for vectors of elements i.., and for the rest one by one.
template <class Body>
HWY_INLINE void ForVectors(size_t n, const Body& body) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> d1;
  size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) body(d, i);
  for (; i < n; ++i) body(d1, i);
}

/// dy * w, or that times x - mean.
struct WeighedTerm {
  const float *dy, *w, *x;  // w and x may be absent
  float mean;
  template <class D>
  HWY_INLINE hn::Vec<D> operator()(D d, size_t i) const {
    auto v = hn::LoadU(d, dy + i);
    if (w) v = hn::Mul(v, hn::LoadU(d, w + i));
    if (x) v = hn::Mul(v, hn::Sub(hn::LoadU(d, x + i), hn::Set(d, mean)));
    return v;
  }
};

/// One row; adds dy and dy * normalised x to db and dw, where present.
void RowBackward(const float* x, const float* w, bool centered, float eps, const float* dy, float* dx,
                 float* dw, float* db, size_t n) {
  const double count = static_cast<double>(n);
  const float mean = centered ? static_cast<float>(SumOver(n, DifferenceTerm{x, 0.0f}) / count) : 0.0f;
  const double rest = centered ? SumOver(n, DifferenceTerm{x, mean}) / count : 0.0;
  const double variance = std::max(0.0, SumOver(n, SquareTerm{x, mean}) / count - rest * rest);
  const double factor = 1.0 / std::sqrt(variance + static_cast<double>(eps));
  const double sum = SumOver(n, WeighedTerm{dy, w, nullptr, 0}) / count;
  const double along = factor * (SumOver(n, WeighedTerm{dy, w, x, mean}) / count - rest * sum);
  // dx = factor * (dy w - sum - along * (x - mean) * factor)
  const auto r = static_cast<float>(factor), slope = static_cast<float>(-along * factor * factor);
  const auto offset = static_cast<float>((centered ? -factor * sum : 0.0) + along * factor * factor * rest);
  const auto shift = static_cast<float>(rest * factor);
  ForVectors(n, [&](auto d, size_t i) HWY_ATTR {
    const auto v = hn::LoadU(d, dy + i), away = hn::Sub(hn::LoadU(d, x + i), hn::Set(d, mean));
    const auto weighed = hn::Mul(w ? hn::Mul(v, hn::LoadU(d, w + i)) : v, hn::Set(d, r));
    hn::StoreU(hn::Add(weighed, hn::MulAdd(away, hn::Set(d, slope), hn::Set(d, offset))), d, dx + i);
    if (dw) {
      const auto normal = hn::MulSub(away, hn::Set(d, r), hn::Set(d, shift));
      hn::StoreU(hn::MulAdd(v, normal, hn::LoadU(d, dw + i)), d, dw + i);
    }
    if (db) hn::StoreU(hn::Add(v, hn::LoadU(d, db + i)), d, db + i);
  });
}

/// Adds dy, and dy * (x - center), to sums of each channel.
void PixelSums(const float* x, const float* dy, size_t pixels, size_t C, const float* center, float* sums,
               float* along) {
  for (size_t p = 0; p < pixels; ++p, x += C, dy += C) {
    ForVectors(C, [&](auto d, size_t c) HWY_ATTR {
      const auto v = hn::LoadU(d, dy + c), away = hn::Sub(hn::LoadU(d, x + c), hn::LoadU(d, center + c));
      hn::StoreU(hn::Add(v, hn::LoadU(d, sums + c)), d, sums + c);
      hn::StoreU(hn::MulAdd(v, away, hn::LoadU(d, along + c)), d, along + c);
    });
  }
}

/// dx = dy * scale + (x - center) * slope + offset, each of a channel.
void PixelsBackward(const float* x, const float* dy, size_t pixels, size_t C, const float* center,
                    const float* scale, const float* slope, const float* offset, float* dx) {
  for (size_t p = 0; p < pixels; ++p, x += C, dy += C, dx += C) {
    ForVectors(C, [&](auto d, size_t c) HWY_ATTR {
      const auto away = hn::Sub(hn::LoadU(d, x + c), hn::LoadU(d, center + c));
      const auto rest = hn::MulAdd(away, hn::LoadU(d, slope + c), hn::LoadU(d, offset + c));
      hn::StoreU(hn::MulAdd(hn::LoadU(d, dy + c), hn::LoadU(d, scale + c), rest), d, dx + c);
    });
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sinopia
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinopia {

HWY_EXPORT(RowBackward);
HWY_EXPORT(PixelSums);
HWY_EXPORT(PixelsBackward);

namespace {

/// sums[c] = the sum over blocks of partial[block * step + c].
void add_blocks(const std::vector<float>& partial, int64_t blocks, int64_t step, int64_t C, double* sums) {
  std::fill_n(sums, C, 0.0);
  for (int64_t i = 0; i < blocks; ++i) {
    for (int64_t c = 0; c < C; ++c)
      sums[c] += static_cast<double>(partial[static_cast<size_t>(i * step + c)]);
  }
}

void rows_backward(const Tensor& x, const Tensor& w, bool centered, float eps, const Tensor& dy, Tensor& dx,
                   Tensor* dw, Tensor* db) {
  constexpr int64_t kRows = 64;  // whose dw and db are added in f32
  const int64_t D = x.dim(-1), rows = D > 0 ? x.numel() / D : 0, blocks = (rows + kRows - 1) / kRows;
  const Tensor weight = widened(w);
  const auto partial_of = [&](const Tensor* g) {
    return std::vector<float>(static_cast<size_t>(g ? blocks * D : 0));
  };
  std::vector<float> dw_parts = partial_of(dw), db_parts = partial_of(db);
  parallel_for(blocks, std::max<int64_t>(1, kMemoryGrain / std::max<int64_t>(1, kRows * D)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t row = begin * kRows; row < std::min(rows, end * kRows); ++row) {
                   const int64_t part = row / kRows * D;
                   HWY_DYNAMIC_DISPATCH(RowBackward)
                   (x.data<float>() + row * D, weight ? weight.data<float>() : nullptr, centered, eps,
                    dy.data<float>() + row * D, dx.data<float>() + row * D,
                    dw ? dw_parts.data() + part : nullptr, db ? db_parts.data() + part : nullptr,
                    static_cast<size_t>(D));
                 }
               });
  std::vector<double> sums(static_cast<size_t>(D));
  const auto finish = [&](const std::vector<float>& parts, Tensor& g) {
    add_blocks(parts, blocks, D, D, sums.data());
    std::ranges::transform(sums, g.data<float>(), [](double v) { return static_cast<float>(v); });
  };
  if (dw) finish(dw_parts, *dw);
  if (db) finish(db_parts, *db);
}

}  // namespace

void CpuKernels::layer_norm_backward(const Tensor& x, const Tensor& w, float eps, const Tensor& dy,
                                     Tensor& dx, Tensor& dw, Tensor& db) {
  rows_backward(x, w, true, eps, dy, dx, dw ? &dw : nullptr, db ? &db : nullptr);
}

void CpuKernels::rms_norm_backward(const Tensor& x, const Tensor& w, float eps, const Tensor& dy, Tensor& dx,
                                   Tensor& dw) {
  rows_backward(x, w, false, eps, dy, dx, dw ? &dw : nullptr, nullptr);
}

void CpuKernels::group_norm_backward(const Tensor& x, int groups, const Tensor& w, float eps,
                                     const Tensor& dy, Tensor& dx, Tensor& dw, Tensor& db) {
  const int64_t C = x.dim(-1);
  std::vector<double> dw_sums(static_cast<size_t>(C)), db_sums(static_cast<size_t>(C));
  if (x.numel() > 0) {
    const int64_t N = x.dim(0), P = x.numel() / (N * C), width = C / groups;
    const std::vector<GroupStatistics> statistics = group_statistics(x, groups, eps);
    const Tensor weight = widened(w);
    const auto NC = static_cast<size_t>(N * C);
    std::vector<float> center(NC), scale(NC), slope(NC), offset(NC);
    const auto group_of = [&](int64_t n, int64_t c) -> const GroupStatistics& {
      return statistics[static_cast<size_t>(n * groups + c / width)];
    };
    for (int64_t n = 0; n < N; ++n) {
      for (int64_t c = 0; c < C; ++c)
        center[static_cast<size_t>(n * C + c)] = static_cast<float>(group_of(n, c).mean);
    }

    const int64_t blocks = (P + kBlockPixels - 1) / kBlockPixels;
    std::vector<float> sums(static_cast<size_t>(N * blocks * C)), along(sums.size());
    for_blocks(x, [&](int64_t n, int64_t p, int64_t pixels) {
      const int64_t at = (n * P + p) * C, part = (n * blocks + p / kBlockPixels) * C;
      HWY_DYNAMIC_DISPATCH(PixelSums)
      (x.data<float>() + at, dy.data<float>() + at, static_cast<size_t>(pixels), static_cast<size_t>(C),
       center.data() + n * C, sums.data() + part, along.data() + part);
    });

    std::vector<double> a(static_cast<size_t>(C)), b(a.size());
    for (int64_t n = 0; n < N; ++n) {
      const auto part_of = [&](const std::vector<float>& all) {
        const auto first = all.begin() + n * blocks * C;
        return std::vector<float>(first, first + blocks * C);
      };
      add_blocks(part_of(sums), blocks, C, C, a.data());
      add_blocks(part_of(along), blocks, C, C, b.data());
      for (int64_t g = 0; g < groups; ++g) {
        const GroupStatistics& group = statistics[static_cast<size_t>(n * groups + g)];
        const double r = group.factor,
                     rest = group.mean - static_cast<double>(static_cast<float>(group.mean));
        double s1 = 0, s2 = 0;
        const auto factor_of = [&](int64_t c) {
          return weight ? static_cast<double>(weight.data<float>()[c]) : 1.0;
        };
        for (int64_t c = g * width; c < (g + 1) * width; ++c) {
          const auto i = static_cast<size_t>(c);
          b[i] = r * (b[i] - rest * a[i]);
          dw_sums[i] += b[i];
          db_sums[i] += a[i];
          s1 += factor_of(c) * a[i];
          s2 += factor_of(c) * b[i];
        }
        const auto count = static_cast<double>(P * width);
        s1 /= count;
        s2 /= count;
        for (int64_t c = g * width; c < (g + 1) * width; ++c) {
          const auto at = static_cast<size_t>(n * C + c);
          scale[at] = static_cast<float>(r * factor_of(c));
          slope[at] = static_cast<float>(-r * r * s2);
          offset[at] = static_cast<float>(r * r * s2 * rest - r * s1);
        }
      }
    }

    for_blocks(x, [&](int64_t n, int64_t p, int64_t pixels) {
      const int64_t at = (n * P + p) * C, first = n * C;
      HWY_DYNAMIC_DISPATCH(PixelsBackward)
      (x.data<float>() + at, dy.data<float>() + at, static_cast<size_t>(pixels), static_cast<size_t>(C),
       center.data() + first, scale.data() + first, slope.data() + first, offset.data() + first,
       dx.data<float>() + at);
    });
  }
  const auto finish = [&](const std::vector<double>& from, Tensor& g) {
    if (g) std::ranges::transform(from, g.data<float>(), [](double v) { return static_cast<float>(v); });
  };
  finish(dw_sums, dw);
  finish(db_sums, db);
}

}  // namespace sinopia
#endif  // HWY_ONCE
