#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sinopia/backend/cpu/rounded_gemm.cpp"
#include "sinopia/backend/cpu/rounded_gemm.h"

#include <algorithm>
#include <vector>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "sinopia/backend/cpu/cast.h"
#include "sinopia/backend/cpu/cpu_kernels.h"
#include "sinopia/backend/cpu/gemm_plan.h"
#include "sinopia/backend/cpu/math-inl.h"
#include "sinopia/backend/cpu/onednn.h"
#include "sinopia/backend/matmul_precision.h"
#include "sinopia/base/threads.h"

HWY_BEFORE_NAMESPACE();
namespace sinopia {
namespace HWY_NAMESPACE {

/// What follows the sums, in rows [row0, row0 + rows) and columns [column, column + columns) of y.
void FinishBlock(const GemmProblem& p, int64_t row0, int64_t rows, int64_t column, int64_t columns) {
  const auto finish = [&](auto d, int64_t row, int64_t at) HWY_ATTR {
    float* y = p.y + row * p.n + at;
    auto v = hn::LoadU(d, y);
    if (p.bias) v = hn::Add(v, hn::LoadU(d, p.bias + at));
    if (p.add) v = hn::Add(v, hn::LoadU(d, p.add + row / p.rows_per_add * p.n + at));
    hn::StoreU(Activate(d, p.activation, v), d, y);
  };
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t row = row0; row < row0 + rows; ++row) {
    int64_t at = column;
    for (; at + lanes <= column + columns; at += lanes) finish(d, row, at);
    for (; at < column + columns; ++at) finish(hn::CappedTag<float, 1>(), row, at);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sinopia
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinopia {
namespace {

// One task is a block of rows and columns, cut by the shape alone: its y stays in the L2 cache.
constexpr int64_t kRows = 256, kColumns = 320;

Tensor rounded(const Tensor& x, DType held) {
  Tensor result = Tensor::empty(x.shape(), DType::BF16);
  cpu_kernels().convert(x, result);
  return held == DType::F32 ? widened(result) : result;
}

}  // namespace

HWY_EXPORT(FinishBlock);

void gemm_of_weights(const Tensor& x, const Tensor& w, const GemmProblem& p) {
  const bool rounds = matmul_precision() == MatmulPrecision::BF16 && !p.patches && !is_narrow(p) && p.k > 0;
  if (!rounds) return gemm(p);
  count_rounded_matmul();
  rounded_gemm(x, w, p);
}

void rounded_gemm(const Tensor& x, const Tensor& w, const GemmProblem& p, DType held) {
  const Tensor xs = rounded(x, held), ws = rounded(w, held);
  const auto row_bytes = p.k * static_cast<int64_t>(size_of(held));
  const auto* x_data = static_cast<const char*>(xs.raw());
  const auto* w_data = static_cast<const char*>(ws.raw());
  const int64_t rows = divide_up(p.m, divide_up(p.m, kRows)), row_cuts = divide_up(p.m, rows);
  const int64_t columns = divide_up(p.n, divide_up(p.n, kColumns)), column_cuts = divide_up(p.n, columns);
  const auto width = [&](int64_t cut) { return std::min(columns, p.n - cut * columns); };
  std::vector<WeightProduct> products(column_cuts);
  parallel_for(column_cuts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      products[i] = onednn_product(held, w_data + i * columns * row_bytes, width(i), p.k, rows, p.n);
  });
  parallel_for(row_cuts * column_cuts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row0 = i / column_cuts * rows, cut = i % column_cuts, column = cut * columns;
      const int64_t rows_here = std::min(rows, p.m - row0);
      products[cut](x_data + row0 * row_bytes, rows_here, p.y + row0 * p.n + column);
      HWY_DYNAMIC_DISPATCH(FinishBlock)(p, row0, rows_here, column, width(cut));
    }
  });
}

}  // namespace sinopia
#endif
