#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sinopia/backend/cpu/attention.cpp"
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "sinopia/backend/cpu/cpu_kernels.h"
#include "sinopia/backend/cpu/gemm-inl.h"
#include "sinopia/backend/cpu/scratch.h"
#include "sinopia/base/threads.h"

#ifndef SINOPIA_BACKEND_CPU_ATTENTION_
#define SINOPIA_BACKEND_CPU_ATTENTION_
namespace sinopia {
namespace {

constexpr int64_t kQueries = 48;  // scores of these stay in the L1 cache; a multiple of every tile's rows
constexpr int64_t kTaskQueries = 192;  // share a step of keys and values in the L2 cache
constexpr int64_t kKeys = 128;         // one step of the running softmax; a multiple of every tile's columns
constexpr int64_t kPackedFloats = 4 << 20;  // keys and values laid out for the tiles at a time
constexpr float kLowest = std::numeric_limits<float>::lowest();

struct AttentionProblem {
  const float *q, *k, *v;
  const float* bias;                        // may be absent
  int64_t bias_batch_step, bias_head_step;  // 0 where it is shared
  int64_t batch, heads, T, S, D;
  float scale;  // of the scores, times log2 e: the softmax is taken in powers of two
  bool causal;
  float* y;
};

}  // namespace
}  // namespace sinopia
#endif

HWY_BEFORE_NAMESPACE();
namespace sinopia {
namespace HWY_NAMESPACE {

/// 2^x for x <= 0 within 2 ulp; 0 below -125.
HWY_INLINE hn::Vec<F32> Exp2(F32 d, hn::Vec<F32> x) {
  const hn::RebindToSigned<F32> di;
  const auto magic = hn::Set(d, 12582912.0f);  // 1.5 * 2^23: its sum with x ends in the bits of round(x)
  const auto shifted = hn::Add(x, magic);
  const auto f = hn::Sub(x, hn::Sub(shifted, magic));
  auto p = hn::MulAdd(hn::Set(d, 0.00132694072f), f, hn::Set(d, 0.00967129413f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.0555071123f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.240222469f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.693147004f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
  const auto y = hn::BitCast(d, hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::BitCast(di, shifted))));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -125.0f)), y);
}

/// The first `count` floats, and zeros.
HWY_INLINE hn::Vec<F32> LoadFirst(F32 d, const float* from, int64_t count) {
  if (count >= static_cast<int64_t>(hn::Lanes(d))) return hn::LoadU(d, from);
  HWY_ALIGN float part[HWY_MAX_BYTES / 4] = {};
  std::copy_n(from, count, part);
  return hn::Load(d, part);
}

/// The columns of the second product come in panels of two vectors, and one of three or one if they are odd.
struct ValuePanels {
  explicit ValuePanels(int64_t D)
      : lanes(static_cast<int64_t>(hn::Lanes(F32()))), vectors((D + lanes - 1) / lanes) {}
  int64_t lanes, vectors;
  int64_t columns() const { return vectors * lanes; }
  /// Vectors of the panel that starts at vector i.
  int64_t width(int64_t i) const { return vectors - i == 3 ? 3 : std::min<int64_t>(2, vectors - i); }
};

/// Lays out one step of keys: [panel][D, tile columns], zeros past the last key.
void PackKeys(const AttentionProblem& p, const float* k, int64_t key0, const float* zeros, float* to) {
  const int64_t width = TileColumns();
  const float* rows[kMaxTileColumns];
  for (int64_t s = key0; s < std::min(p.S, key0 + kKeys); s += width, to += width * p.D) {
    for (int64_t j = 0; j < width; ++j) rows[j] = s + j < p.S ? k + (s + j) * p.heads * p.D : zeros;
    PackRows(rows, width, p.D, to);
  }
}

/// Lays out one step of values: [panel][key, panel's columns], zeros past the last column.
void PackValues(const AttentionProblem& p, const float* v, int64_t key0, float* to) {
  const F32 d;
  const ValuePanels panels(p.D);
  const int64_t keys = std::min(kKeys, p.S - key0), stride = p.heads * p.D;
  for (int64_t i = 0; i < panels.vectors; i += panels.width(i)) {
    const int64_t end = i + panels.width(i);
    for (int64_t s = 0; s < keys; ++s) {
      for (int64_t j = i; j < end; ++j, to += panels.lanes) {
        const int64_t column = j * panels.lanes;
        hn::Store(LoadFirst(d, v + (key0 + s) * stride + column, p.D - column), d, to);
      }
    }
  }
}

/// Turns a row of scores into weights relative to the running maximum; returns what the sums so far shrink
/// by.
HWY_INLINE float SoftmaxStep(float* scores, int64_t keys, const float* bias, float& maximum, float& sum) {
  const F32 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t padded = (keys + lanes - 1) / lanes * lanes;
  if (bias) {
    constexpr float kLog2E = 1.44269504f;
    for (int64_t j = 0; j < keys; ++j) scores[j] += kLog2E * bias[j];
  }
  for (int64_t j = keys; j < padded; ++j) scores[j] = -std::numeric_limits<float>::infinity();
  auto highest = hn::Set(d, maximum);
  for (int64_t j = 0; j < padded; j += lanes) highest = hn::Max(highest, hn::Load(d, scores + j));
  const float before = maximum;
  maximum = hn::GetLane(hn::MaxOfLanes(d, highest));
  const auto shift = hn::Set(d, maximum);
  auto total = hn::Zero(d);
  for (int64_t j = 0; j < padded; j += lanes) {
    const auto e = Exp2(d, hn::Sub(hn::Load(d, scores + j), shift));
    total = hn::Add(total, e);
    hn::Store(e, d, scores + j);
  }
  const bool first = before == kLowest;  // nothing is there yet that could shrink
  const float shrink = maximum > before && !first ? std::exp2(before - maximum) : 1.0f;
  sum = sum * shrink + hn::GetLane(hn::SumOfLanes(d, total));
  return shrink;
}

/// What a block of queries has seen so far.
struct RunningSoftmax {
  float* q;     // packed tiles of the queries, times the scale
  float* sums;  // [kQueries, columns]: of the values, weighted
  float maximum[kQueries], total[kQueries];
};

/// Lays out queries [t0, t0 + kQueries), the last repeated past the end.
void Begin(const AttentionProblem& p, const float* q, int64_t t0, int64_t columns, RunningSoftmax& block) {
  const F32 d;
  const auto scale = hn::Set(d, p.scale);
  const int64_t stride = p.heads * p.D, q_size = packed_size<kTileRows>(p.D);
  for (int64_t r = 0; r < kQueries; ++r) {
    const float* from = q + std::min(t0 + r, p.T - 1) * stride;
    float* to = block.q + r / kTileRows * q_size + r % kTileRows * kRun;
    for (int64_t c = 0; c < p.D; c += kRun, to += kTileRows * kRun)
      hn::Store(hn::Mul(LoadFirst(d, from + c, p.D - c), scale), d, to);
    block.maximum[r] = kLowest;
    block.total[r] = 0;
  }
  std::fill_n(block.sums, kQueries * columns, 0.0f);
}

/// Keys [key0, key0 + keys) for queries [t0, t0 + queries) of one head.
void AttendStep(const AttentionProblem& p, const float* bias, int64_t t0, int64_t queries, int64_t key0,
                int64_t keys, const float* packed_k, const float* packed_v, float* scores,
                RunningSoftmax& block) {
  const F32 d;
  const ValuePanels panels(p.D);
  const int64_t width = TileColumns(), columns = panels.columns();
  const int64_t q_size = packed_size<kTileRows>(p.D);
  for (int64_t s = 0; s < keys; s += width) {
    const float* panel = packed_k + (key0 + s) * p.D;
    for (int64_t r = 0; r < queries; r += kTileRows)
      MicroTile<kTileRows, kTileVectors>(packed_rows<kTileRows>(block.q + r / kTileRows * q_size), p.D, panel,
                                         scores + r * kKeys + s, kKeys, {});
  }
  for (int64_t r = 0; r < queries; ++r) {
    float* row = scores + r * kKeys;
    if (p.causal && key0 + keys > t0 + r + 1) {
      const int64_t first = std::max<int64_t>(0, t0 + r + 1 - key0);
      std::fill(row + first, row + keys, -std::numeric_limits<float>::infinity());
    }
    const float shrink = SoftmaxStep(row, keys, bias ? bias + (t0 + r) * p.S + key0 : nullptr,
                                     block.maximum[r], block.total[r]);
    if (shrink == 1) continue;
    float* sum = block.sums + r * columns;
    for (int64_t c = 0; c < columns; c += panels.lanes)
      hn::Store(hn::Mul(hn::Load(d, sum + c), hn::Set(d, shrink)), d, sum + c);
  }
  const TileEnd add{.accumulate = true};
  const float* panel = packed_v + key0 * columns;
  const int64_t packed_keys = std::min(kKeys, p.S - key0);
  for (int64_t i = 0; i < panels.vectors; i += panels.width(i)) {
    float* to = block.sums + i * panels.lanes;
    const int64_t panel_vectors = panels.width(i);
    if (panel_vectors == 3) {
      for (int64_t r = 0; r < queries; r += kWideTileRows)
        MicroTile<kWideTileRows, 3>(strided_rows(scores + r * kKeys, kKeys), keys, panel, to + r * columns,
                                    columns, add);
    } else if (panel_vectors == 2) {
      for (int64_t r = 0; r < queries; r += kTileRows)
        MicroTile<kTileRows, 2>(strided_rows(scores + r * kKeys, kKeys), keys, panel, to + r * columns,
                                columns, add);
    } else {
      for (int64_t r = 0; r < queries; r += kTileRows)
        MicroTile<kTileRows, 1>(strided_rows(scores + r * kKeys, kKeys), keys, panel, to + r * columns,
                                columns, add);
    }
    panel += packed_keys * panel_vectors * panels.lanes;
  }
}

/// All keys for queries [t0, t0 + queries) of one head, at most kTaskQueries.
void AttendTask(const AttentionProblem& p, int64_t batch, int64_t head, int64_t t0, int64_t queries,
                const float* packed_k, const float* packed_v) {
  constexpr int64_t kBlocks = kTaskQueries / kQueries;
  const int64_t columns = ValuePanels(p.D).columns(), stride = p.heads * p.D;
  const int64_t q_size = kQueries / kTileRows * packed_size<kTileRows>(p.D);
  const int64_t blocks = (queries + kQueries - 1) / kQueries;
  float* scores = thread_scratch(kQueries * kKeys + blocks * (kQueries * columns + q_size));
  RunningSoftmax running[kBlocks];
  for (int64_t i = 0; i < blocks; ++i) {
    running[i].sums = scores + kQueries * kKeys + i * (kQueries * columns + q_size);
    running[i].q = running[i].sums + kQueries * columns;
    Begin(p, p.q + batch * p.T * stride + head * p.D, t0 + i * kQueries, columns, running[i]);
  }
  const float* bias = p.bias ? p.bias + batch * p.bias_batch_step + head * p.bias_head_step : nullptr;
  for (int64_t key0 = 0; key0 < p.S; key0 += kKeys) {
    for (int64_t i = 0; i < blocks; ++i) {
      const int64_t first = t0 + i * kQueries, count = std::min(kQueries, t0 + queries - first);
      const int64_t seen = p.causal ? std::min(p.S, first + count) : p.S;
      if (key0 < seen)
        AttendStep(p, bias, first, count, key0, std::min(kKeys, seen - key0), packed_k, packed_v, scores,
                   running[i]);
    }
  }
  for (int64_t t = 0; t < queries; ++t) {
    const RunningSoftmax& block = running[t / kQueries];
    const int64_t r = t % kQueries;
    const float scale = block.total[r] == 0 ? 0 : 1 / block.total[r];
    float* y = p.y + (batch * p.T + t0 + t) * stride + head * p.D;
    for (int64_t c = 0; c < p.D; ++c) y[c] = block.sums[r * columns + c] * scale;
  }
}

void Attend(const AttentionProblem& p) {
  const int64_t width = TileColumns(), columns = ValuePanels(p.D).columns();
  const int64_t steps = (p.S + kKeys - 1) / kKeys, tasks = (p.T + kTaskQueries - 1) / kTaskQueries;
  const int64_t k_size = (p.S + width - 1) / width * width * p.D, v_size = p.S * columns;
  const int64_t all = p.batch * p.heads;
  const int64_t per_group = std::clamp<int64_t>(kPackedFloats / (k_size + v_size), 1, all);
  // Panels start on vectors: round up.
  const int64_t v_at = (k_size + 15) / 16 * 16, head_size = v_at + (v_size + 15) / 16 * 16;
  Tensor packed = Tensor::empty({per_group * head_size});
  float* data = packed.data<float>();
  const std::vector<float> zeros(p.D);
  for (int64_t first = 0; first < all; first += per_group) {
    const int64_t count = std::min(per_group, all - first);
    parallel_for(count * steps, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t index = first + i / steps, key0 = i % steps * kKeys;
        const int64_t at = index / p.heads * p.S * p.heads * p.D + index % p.heads * p.D;
        float* to = data + i / steps * head_size;
        PackKeys(p, p.k + at, key0, zeros.data(), to + key0 * p.D);
        PackValues(p, p.v + at, key0, to + v_at + key0 * columns);
      }
    });
    parallel_for(count * tasks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t index = first + i / tasks, t0 = i % tasks * kTaskQueries;
        const float* from = data + i / tasks * head_size;
        AttendTask(p, index / p.heads, index % p.heads, t0, std::min(kTaskQueries, p.T - t0), from,
                   from + v_at);
      }
    });
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sinopia
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinopia {

HWY_EXPORT(Attend);

void CpuKernels::attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& bias,
                           const AttentionOptions& options, Tensor& y) {
  AttentionProblem p{};
  p.q = q.data<float>();
  p.k = k.data<float>();
  p.v = v.data<float>();
  p.batch = q.dim(0);
  p.heads = options.heads;
  p.T = q.dim(1);
  p.S = k.dim(1);
  p.D = q.dim(2) / options.heads;
  const double scale = options.scale != 0 ? options.scale : 1 / std::sqrt(static_cast<double>(p.D));
  p.scale = static_cast<float>(scale * 1.4426950408889634);
  p.causal = options.causal;
  p.y = y.data<float>();
  if (bias) {
    p.bias = bias.data<float>();
    p.bias_head_step = bias.dim(1) > 1 ? p.T * p.S : 0;
    p.bias_batch_step = bias.dim(0) > 1 ? bias.dim(1) * p.T * p.S : 0;
  }
  if (y.numel() == 0) return;
  if (p.S == 0) return fill(y, 0);
  HWY_DYNAMIC_DISPATCH(Attend)(p);
}

}  // namespace sinopia
#endif
