#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sinopia/backend/cpu/rounded_gemm.cpp"
#include "sinopia/backend/cpu/rounded_gemm.h"

#include <algorithm>
#include <cmath>
#include <utility>
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

/// steps[k] = round(x[k] / scale) within -limit to limit, where the largest magnitude is limit * scale;
/// returns the scale, NaN if an element is not finite.
float RoundToSteps(const float* x, int64_t K, float limit, int8_t* steps) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> d1;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto largest = hn::Zero(d), nothing = hn::Zero(d);
  int64_t k = 0;
  for (; k + lanes <= K; k += lanes) {
    const auto v = hn::LoadU(d, x + k);
    largest = hn::Max(largest, hn::Abs(v));
    nothing = hn::MulAdd(v, hn::Zero(d), nothing);
  }
  float most = hn::GetLane(hn::MaxOfLanes(d, largest)), none = hn::GetLane(hn::SumOfLanes(d, nothing));
  for (; k < K; ++k) {
    most = std::max(most, std::abs(x[k]));
    none += x[k] * 0;
  }
  const float inverse = most > 1e-30f ? limit / most : 0;  // of a smaller one it would overflow
  const auto store = [&](auto part, int64_t at) HWY_ATTR {
    const hn::Rebind<int8_t, decltype(part)> d8;
    const auto whole = hn::NearestInt(hn::Mul(hn::LoadU(part, x + at), hn::Set(part, inverse)));
    hn::StoreU(hn::DemoteTo(d8, whole), d8, steps + at);
  };
  for (k = 0; k + lanes <= K; k += lanes) store(d, k);
  for (; k < K; ++k) store(d1, k);
  return most / limit + none;
}

/// What follows the sums, in rows [row0, row0 + rows) and columns [column, column + columns) of y. Where
/// there are scales, of y's rows and of these columns, the sums are integers.
void FinishBlock(const GemmProblem& p, int64_t row0, int64_t rows, int64_t column, int64_t columns,
                 const float* row_scales, const float* column_scales) {
  const auto finish = [&](auto d, int64_t row, int64_t at) HWY_ATTR {
    const hn::RebindToSigned<decltype(d)> di;
    float* y = p.y + row * p.n + at;
    auto v = hn::LoadU(d, y);
    if (row_scales) {
      const auto scale = hn::Mul(hn::LoadU(d, column_scales + at - column), hn::Set(d, row_scales[row]));
      v = hn::Mul(hn::ConvertTo(d, hn::BitCast(di, v)), scale);
    }
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

HWY_EXPORT(RoundToSteps);
HWY_EXPORT(FinishBlock);

struct Rounded {
  Tensor values;
  std::vector<float> scales;  // of the rows, if they are held as I8
};

/// x [rows,K], weights in any type.
Rounded round_rows(const Tensor& x, int64_t rows, int64_t K, DType held, float limit) {
  Rounded result{Tensor::empty({rows, K}, held == DType::I8 ? DType::I8 : DType::BF16), {}};
  if (held != DType::I8) {
    cpu_kernels().convert(x, result.values);
    if (held == DType::F32) result.values = widened(result.values);
    return result;
  }
  const Tensor wide = widened(x);
  const float* from = wide.data<float>();
  auto* to = result.values.data<int8_t>();
  result.scales.resize(rows);
  parallel_for(rows, std::max<int64_t>(1, kMemoryGrain / K), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      result.scales[i] = HWY_DYNAMIC_DISPATCH(RoundToSteps)(from + i * K, K, limit, to + i * K);
  });
  return result;
}

}  // namespace

void gemm_of_weights(const Tensor& x, const Tensor& w, const GemmProblem& p) {
  const MatmulPrecision precision = matmul_precision();
  const bool linear = w.rank() == 2, suits = !p.patches && !is_narrow(p) && p.k > 0;
  const bool rounds = precision == MatmulPrecision::BF16 || (precision == MatmulPrecision::Int8 && linear);
  if (!rounds || !suits) return gemm(p);
  count_rounded_matmul();
  rounded_gemm(x, w, p, precision == MatmulPrecision::BF16 ? DType::BF16 : DType::I8);
}

void rounded_gemm(const Tensor& x, const Tensor& w, const GemmProblem& p, DType held) {
  constexpr float kSteps = 127, kStepsWithoutVnni = 63;
  const float w_steps = onednn_needs(MatmulPrecision::Int8).empty() ? kSteps : kStepsWithoutVnni;
  const int64_t rows = divide_up(p.m, divide_up(p.m, kRows)), row_cuts = divide_up(p.m, rows);
  const int64_t columns = divide_up(p.n, divide_up(p.n, kColumns)), column_cuts = divide_up(p.n, columns);
  const auto width = [&](int64_t cut) { return std::min(columns, p.n - cut * columns); };

  const Rounded xs = round_rows(x, p.m, p.k, held, kSteps);
  std::vector<WeightProduct> products(column_cuts);
  std::vector<std::vector<float>> w_scales(column_cuts);
  parallel_for(column_cuts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Tensor part = w.slice(i * columns, i * columns + width(i));
      Rounded ws = round_rows(part, width(i), p.k, held, w_steps);
      products[i] = onednn_product(held, ws.values.raw(), width(i), p.k, rows, p.n);
      w_scales[i] = std::move(ws.scales);
    }
  });
  const auto* x_data = static_cast<const char*>(xs.values.raw());
  const float* x_scales = held == DType::I8 ? xs.scales.data() : nullptr;
  const auto row_bytes = p.k * static_cast<int64_t>(size_of(held));
  parallel_for(row_cuts * column_cuts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row0 = i / column_cuts * rows, cut = i % column_cuts, column = cut * columns;
      const int64_t rows_here = std::min(rows, p.m - row0);
      products[cut](x_data + row0 * row_bytes, rows_here, p.y + row0 * p.n + column);
      HWY_DYNAMIC_DISPATCH(FinishBlock)
      (p, row0, rows_here, column, width(cut), x_scales, w_scales[cut].data());
    }
  });
}

}  // namespace sinopia
#endif
