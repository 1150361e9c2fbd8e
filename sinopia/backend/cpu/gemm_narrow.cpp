#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sinopia/backend/cpu/gemm_narrow.cpp"
#include <algorithm>
#include <vector>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "sinopia/backend/cpu/gemm.h"
#include "sinopia/backend/cpu/gemm_plan.h"
#include "sinopia/backend/cpu/math-inl.h"
#include "sinopia/backend/cpu/quantised.h"
#include "sinopia/backend/cpu/scratch.h"
#include "sinopia/backend/cpu/widen-inl.h"
#include "sinopia/base/threads.h"

HWY_BEFORE_NAMESPACE();
namespace sinopia {
namespace HWY_NAMESPACE {

constexpr int kDotColumns = 4, kDotRows = 3;  // 12 accumulators

/// sums[i * kDotColumns + j] += x row i * w row j over `segments` runs of x, and w without a gap.
template <int kRows, class T>
HWY_INLINE void DotTile(const float* const* rows, int64_t rows_step, int64_t segments, int64_t length,
                        const T* const* w, float* sums) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  V sum[kRows][kDotColumns];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < kDotColumns; ++j) sum[i][j] = hn::Zero(d);
  }
  for (int64_t s = 0; s < segments; ++s) {
    const int64_t at = s * length;
    int64_t k = 0;
    for (; k + lanes <= length; k += lanes) {
      V x[kRows];
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) x[i] = hn::LoadU(d, rows[s * rows_step + i] + k);
#pragma GCC unroll 16
      for (int j = 0; j < kDotColumns; ++j) {
        const V b = WidenLoad(d, w[j] + at + k);
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i) sum[i][j] = hn::MulAdd(x[i], b, sum[i][j]);
      }
    }
    for (; k < length; ++k) {
      for (int i = 0; i < kRows; ++i) {
        for (int j = 0; j < kDotColumns; ++j)
          sums[i * kDotColumns + j] += rows[s * rows_step + i][k] * to_float(w[j][at + k]);
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < kDotColumns; ++j)
      sums[i * kDotColumns + j] += hn::GetLane(hn::SumOfLanes(d, sum[i][j]));
  }
}

/// All columns of up to kDotColumns, for rows [row0, row0 + rows).
template <class T>
void Dots(const GemmProblem& p, const std::vector<BlockK>& blocks, const float* zeros, int64_t row0,
          int64_t rows, int64_t column) {
  const int64_t columns = std::min<int64_t>(kDotColumns, p.n - column);
  std::vector<float> sums(rows * kDotColumns);
  RowPointers pointers(p, zeros, row0, rows, rows);
  for (const BlockK& block : blocks) {
    const float* const* runs = pointers.find(block);
    const T* w[kDotColumns];
    for (int64_t j = 0; j < kDotColumns; ++j)
      w[j] = static_cast<const T*>(p.w) + (column + std::min(j, columns - 1)) * p.k + block.begin;
    for (int64_t r = 0; r < rows; r += kDotRows) {
      float* to = sums.data() + r * kDotColumns;
      switch (std::min<int64_t>(kDotRows, rows - r)) {
        case 1:
          DotTile<1>(runs + r, rows, block.segments, block.length, w, to);
          break;
        case 2:
          DotTile<2>(runs + r, rows, block.segments, block.length, w, to);
          break;
        default:
          DotTile<3>(runs + r, rows, block.segments, block.length, w, to);
      }
    }
  }
  const hn::CappedTag<float, 1> d;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < columns; ++j) {
      float v = sums[r * kDotColumns + j] * p.alpha;
      if (p.bias) v += p.bias[column + j];
      if (p.add) v += p.add[(row0 + r) / p.rows_per_add * p.n + column + j];
      p.y[(row0 + r) * p.n + column + j] = hn::GetLane(Activate(d, p.activation, hn::Set(d, v)));
    }
  }
}

constexpr int64_t kQuadsPerTask = 8;

template <class T>
void MultiplyNarrow(const GemmProblem& p) {
  // Few rows: one run along K; their weights stream past once. Few columns: blocks of w stay in the L1 cache.
  const bool few_columns = p.n <= kDotColumns;
  std::vector<BlockK> blocks = cut_k(p.k, p.patches ? p.patches->channels : p.k);
  if (!few_columns) blocks = {{0, p.k, 1}};
  int64_t longest = 1;
  for (const BlockK& block : blocks) longest = std::max(longest, block.length);
  const std::vector<float> zeros(p.patches ? longest : 1);
  if (few_columns) {
    parallel_for(p.m, kBlockRows / 2, [&](int64_t begin, int64_t end) {
      Dots<T>(p, blocks, zeros.data(), begin, end - begin, 0);
    });
    return;
  }
  const int64_t quads = divide_up(p.n, kDotColumns);
  parallel_for(quads, kQuadsPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) Dots<T>(p, blocks, zeros.data(), 0, p.m, i * kDotColumns);
  });
}

/// Quantised weights, widened a few columns at a time.
void MultiplyNarrowQuantised(const GemmProblem& p) {
  GemmProblem part = p;
  part.w_dtype = DType::F32;
  if (p.n <= kDotColumns) {
    std::vector<float> wide(p.n * p.k);
    dequantise(p.w_dtype, p.w, p.n * p.k, wide.data());
    part.w = wide.data();
    return MultiplyNarrow<float>(part);
  }
  parallel_for(divide_up(p.n, kDotColumns), kQuadsPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t column = i * kDotColumns, columns = std::min<int64_t>(kDotColumns, p.n - column);
      float* wide = thread_scratch(columns * p.k);
      dequantise(p.w_dtype, block_at(p.w, p.w_dtype, column * p.k), columns * p.k, wide);
      GemmProblem quad = part;
      quad.w = wide - column * p.k;
      Dots<float>(quad, {{0, p.k, 1}}, nullptr, 0, p.m, column);
    }
  });
}

void GemmNarrow(const GemmProblem& p) {
  switch (p.w_dtype) {
    case DType::F16:
      return MultiplyNarrow<Half>(p);
    case DType::BF16:
      return MultiplyNarrow<BFloat16>(p);
    case DType::F32:
      return MultiplyNarrow<float>(p);
    default:
      return MultiplyNarrowQuantised(p);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sinopia
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinopia {

HWY_EXPORT(GemmNarrow);

bool is_narrow(const GemmProblem& p) {
  if (p.w_is_kn || p.x_is_km || p.w_patches) return false;
  const bool few_rows = p.m <= 8 && !p.patches;
  return few_rows || p.n <= 4;
}

void gemm_narrow(const GemmProblem& problem) { HWY_DYNAMIC_DISPATCH(GemmNarrow)(problem); }

}  // namespace sinopia
#endif
