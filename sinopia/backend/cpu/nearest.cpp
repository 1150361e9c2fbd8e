#include <algorithm>
#include <limits>
#include <vector>

#include "sinopia/backend/cpu/cast.h"
#include "sinopia/backend/cpu/cpu_kernels.h"
#include "sinopia/backend/cpu/scratch.h"
#include "sinopia/base/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sinopia/backend/cpu/nearest.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sinopia {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

size_t NearestLanes() { return hn::Lanes(hn::ScalableTag<float>()); }

// Of each lane the first of the nearest columns so far: its distance and its panel.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void KeepNearer(D d, V distance, V panel, float* best, float* where) {
  const auto nearer = hn::Lt(distance, hn::Load(d, best));
  hn::Store(hn::IfThenElse(nearer, distance, hn::Load(d, best)), d, best);
  hn::Store(hn::IfThenElse(nearer, panel, hn::Load(d, where)), d, where);
}

// x [rows,D], panels [count][D][lanes]. Differences are squared as they are: |x|^2 - 2 x y + |y|^2 would lose
// what tells near neighbours apart.
void NearestOfPanels(const float* x, size_t rows, size_t D, const float* panels, size_t count,
                     int32_t* place) {
  constexpr size_t kRows = 4;
  const hn::ScalableTag<float> d;
  const size_t L = hn::Lanes(d), all = (rows + kRows - 1) / kRows * kRows;
  float* best = thread_scratch(2 * all * L);
  float* where = best + all * L;
  std::fill(best, where, std::numeric_limits<float>::infinity());
  std::fill(where, where + all * L, 0.0f);
  for (size_t p = 0; p < count; ++p) {
    const float* panel = panels + p * D * L;
    const auto number = hn::Set(d, static_cast<float>(p));
    for (size_t r = 0; r < rows; r += kRows) {
      const float *x0 = x + r * D, *x1 = x + std::min(r + 1, rows - 1) * D,
                  *x2 = x + std::min(r + 2, rows - 1) * D, *x3 = x + std::min(r + 3, rows - 1) * D;
      auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
      for (size_t i = 0; i < D; ++i) {
        const auto y = hn::LoadU(d, panel + i * L);
        const auto d0 = hn::Sub(hn::Set(d, x0[i]), y), d1 = hn::Sub(hn::Set(d, x1[i]), y),
                   d2 = hn::Sub(hn::Set(d, x2[i]), y), d3 = hn::Sub(hn::Set(d, x3[i]), y);
        s0 = hn::MulAdd(d0, d0, s0);
        s1 = hn::MulAdd(d1, d1, s1);
        s2 = hn::MulAdd(d2, d2, s2);
        s3 = hn::MulAdd(d3, d3, s3);
      }
      float *b = best + r * L, *w = where + r * L;
      KeepNearer(d, s0, number, b, w);
      KeepNearer(d, s1, number, b + L, w + L);
      KeepNearer(d, s2, number, b + 2 * L, w + 2 * L);
      KeepNearer(d, s3, number, b + 3 * L, w + 3 * L);
    }
  }
  for (size_t r = 0; r < rows; ++r) {
    const auto row_at = [&](size_t lane) { return static_cast<size_t>(where[r * L + lane]) * L + lane; };
    size_t lane = 0;
    for (size_t l = 1; l < L; ++l) {
      const float now = best[r * L + l], least = best[r * L + lane];
      if (now < least || (now == least && row_at(l) < row_at(lane))) lane = l;
    }
    place[r] = static_cast<int32_t>(row_at(lane));
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sinopia
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinopia {
namespace {

/// A table's rows side by side in panels of as many as a vector has lanes; infinity past the last row.
std::vector<float> as_panels(const float* table, size_t K, size_t D, size_t lanes) {
  const size_t count = (K + lanes - 1) / lanes;
  std::vector<float> panels(count * D * lanes, std::numeric_limits<float>::infinity());
  for (size_t k = 0; k < K; ++k) {
    float* column = panels.data() + k / lanes * D * lanes + k % lanes;
    for (size_t i = 0; i < D; ++i) column[i * lanes] = table[k * D + i];
  }
  return panels;
}

}  // namespace

HWY_EXPORT(NearestLanes);
HWY_EXPORT(NearestOfPanels);

void CpuKernels::nearest_rows(const Tensor& x, const Tensor& table, Tensor& place) {
  const auto K = static_cast<size_t>(table.dim(0)), D = static_cast<size_t>(table.dim(1));
  const Tensor wide = widened(table);
  const size_t lanes = HWY_DYNAMIC_DISPATCH(NearestLanes)();
  const std::vector<float> panels = as_panels(wide.data<float>(), K, D, lanes);
  const float* rows = x.data<float>();
  constexpr int64_t kGrain = 64;  // rows that share a panel while it is in the cache
  parallel_for(place.numel(), kGrain, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(NearestOfPanels)
    (rows + begin * static_cast<int64_t>(D), static_cast<size_t>(end - begin), D, panels.data(),
     panels.size() / (D * lanes), place.data<int32_t>() + begin);
  });
}

}  // namespace sinopia
#endif  // HWY_ONCE
