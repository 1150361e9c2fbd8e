#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "sinopia/backend/cpu/cast.h"
#include "sinopia/backend/cpu/cpu_kernels.h"
#include "sinopia/backend/cpu/gemm.h"
#include "sinopia/base/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sinopia/backend/cpu/attention_backward.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "sinopia/backend/cpu/math-inl.h"
#include "sinopia/backend/cpu/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinopia {
namespace HWY_NAMESPACE {

/// Scores of `seen` keys, and zeros after them, into their softmax; zeros where every score is -infinity.
void SoftmaxRow(float* scores, size_t seen, size_t keys) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> d1;
  const size_t N = hn::Lanes(d);
  float highest = std::numeric_limits<float>::lowest();
  for (size_t i = 0; i < seen; ++i) highest = std::max(highest, scores[i]);
  const auto raise = [&](auto tag, size_t i) HWY_ATTR {
    hn::StoreU(Exp(tag, hn::Sub(hn::LoadU(tag, scores + i), hn::Set(tag, highest))), tag, scores + i);
  };
  size_t i = 0;
  for (; i + N <= seen; i += N) raise(d, i);
  for (; i < seen; ++i) raise(d1, i);
  const double total = SumOver(seen, DifferenceTerm{scores, 0.0f});
  const auto factor = static_cast<float>(total == 0 ? 0 : 1 / total);
  const auto scale = [&](auto tag, size_t k) HWY_ATTR {
    hn::StoreU(hn::Mul(hn::LoadU(tag, scores + k), hn::Set(tag, factor)), tag, scores + k);
  };
  i = 0;
  for (; i + N <= seen; i += N) scale(d, i);
  for (; i < seen; ++i) scale(d1, i);
  std::fill(scores + seen, scores + keys, 0.0f);
}

/// ds = p * (dp - mean) * scale
void ScoresBackward(const float* p, float mean, float scale, float* dp, size_t keys) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> d1;
  const auto one = [&](auto tag, size_t i) HWY_ATTR {
    const auto v = hn::Sub(hn::LoadU(tag, dp + i), hn::Set(tag, mean));
    hn::StoreU(hn::Mul(hn::Mul(v, hn::LoadU(tag, p + i)), hn::Set(tag, scale)), tag, dp + i);
  };
  size_t i = 0;
  for (; i + hn::Lanes(d) <= keys; i += hn::Lanes(d)) one(d, i);
  for (; i < keys; ++i) one(d1, i);
}

}  // namespace HWY_NAMESPACE
}  // namespace sinopia
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinopia {

HWY_EXPORT(SoftmaxRow);
HWY_EXPORT(ScoresBackward);

namespace {

constexpr int64_t kQueries = 64;  // whose scores are held at a time

/// One head of x [B,T,H*D]: [T,D], out of it and back.
void take_head(const Tensor& x, int64_t heads, int64_t index, std::vector<float>& to) {
  const int64_t T = x.dim(1), D = x.dim(2) / heads;
  to.resize(static_cast<size_t>(T * D));
  const float* from = x.data<float>() + index / heads * T * x.dim(2) + index % heads * D;
  for (int64_t t = 0; t < T; ++t) std::copy_n(from + t * x.dim(2), D, to.data() + t * D);
}

void put_head(const std::vector<float>& from, int64_t heads, int64_t index, Tensor& x) {
  const int64_t T = x.dim(1), D = x.dim(2) / heads;
  float* to = x.data<float>() + index / heads * T * x.dim(2) + index % heads * D;
  for (int64_t t = 0; t < T; ++t) std::copy_n(from.data() + t * D, D, to + t * x.dim(2));
}

/// y [M,N] (+)= x w, of the kinds that GemmProblem knows.
struct Product {
  int64_t m, n, k;
  bool x_is_km = false, w_is_kn = false, accumulate = false;
  float alpha = 1;
  void operator()(const float* x, const float* w, float* y) const {
    GemmProblem p;
    p.m = m;
    p.n = n;
    p.k = k;
    p.x = x;
    p.w = w;
    p.x_is_km = x_is_km;
    p.w_is_kn = w_is_kn;
    p.alpha = alpha;
    p.y = y;
    if (accumulate) p.add = y;
    gemm(p);
  }
};

}  // namespace

void CpuKernels::attention_backward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& bias,
                                    const AttentionOptions& options, const Tensor& y, const Tensor& dy,
                                    Tensor& dq, Tensor& dk, Tensor& dv) {
  const int64_t heads = options.heads, T = q.dim(1), S = k.dim(1), D = q.dim(2) / heads;
  if (k.numel() == 0) return fill(dq, 0);
  const float scale = options.scale != 0 ? options.scale : 1 / std::sqrt(static_cast<float>(D));
  parallel_for(q.dim(0) * heads, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> hq, hk, hv, hy, hdy, hdq, hdk, hdv, weights, scores;
    for (int64_t index = begin; index < end; ++index) {
      take_head(q, heads, index, hq);
      take_head(k, heads, index, hk);
      take_head(v, heads, index, hv);
      take_head(y, heads, index, hy);
      take_head(dy, heads, index, hdy);
      hdq.assign(hq.size(), 0);
      hdk.assign(hk.size(), 0);
      hdv.assign(hv.size(), 0);
      for (int64_t t0 = 0; t0 < T; t0 += kQueries) {
        const int64_t rows = std::min(kQueries, T - t0), at = t0 * D;
        // Keys that no query of these sees have no part in it.
        const int64_t keys = options.causal ? std::min(S, t0 + rows) : S;
        weights.resize(static_cast<size_t>(rows * keys));
        scores.resize(weights.size());
        Product{rows, keys, D, false, false, false, scale}(hq.data() + at, hk.data(), weights.data());
        Product{rows, keys, D}(hdy.data() + at, hv.data(), scores.data());
        for (int64_t r = 0; r < rows; ++r) {
          const int64_t seen = options.causal ? std::min(keys, t0 + r + 1) : keys;
          float* p = weights.data() + r * keys;
          if (bias) {
            const int64_t of =
                (bias.dim(0) > 1 ? index / heads * bias.dim(1) : 0) + (bias.dim(1) > 1 ? index % heads : 0);
            const float* row = bias.data<float>() + (of * T + t0 + r) * S;
            for (int64_t s = 0; s < seen; ++s) p[s] += row[s];
          }
          HWY_DYNAMIC_DISPATCH(SoftmaxRow)(p, static_cast<size_t>(seen), static_cast<size_t>(keys));
          double mean = 0;  // of dp under the weights: dy y
          for (int64_t c = at + r * D; c < at + (r + 1) * D; ++c)
            mean += static_cast<double>(hdy[static_cast<size_t>(c)]) *
                    static_cast<double>(hy[static_cast<size_t>(c)]);
          HWY_DYNAMIC_DISPATCH(ScoresBackward)
          (p, static_cast<float>(mean), scale, scores.data() + r * keys, static_cast<size_t>(keys));
        }
        Product{rows, D, keys, false, true}(scores.data(), hk.data(), hdq.data() + at);
        Product{keys, D, rows, true, true, true}(scores.data(), hq.data() + at, hdk.data());
        Product{keys, D, rows, true, true, true}(weights.data(), hdy.data() + at, hdv.data());
      }
      put_head(hdq, heads, index, dq);
      put_head(hdk, heads, index, dk);
      put_head(hdv, heads, index, dv);
    }
  });
}

}  // namespace sinopia
#endif  // HWY_ONCE
