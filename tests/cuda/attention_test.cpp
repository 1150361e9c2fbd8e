#include <limits>

#include "tests/cuda/on_gpu.h"

namespace sinopia {
namespace {

using namespace testing;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Reference {
  std::vector<double> y;
  std::vector<double> error;  // what rounding may make of it
};

/// In double, with what one rounding of each weight and of the result to `dtype` may change. An error e in a
/// score makes its weight wrong by the factor 1 + e; tensor cores cut off what they add to a score.
Reference reference_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& bias,
                              const AttentionOptions& options, DType dtype) {
  const int64_t B = q.dim(0), T = q.dim(1), S = k.dim(1), H = options.heads, D = q.dim(2) / H;
  const double scale = options.scale != 0 ? options.scale : 1 / std::sqrt(static_cast<double>(D));
  const double epsilon = dtype == DType::F32 ? 0 : epsilon_of(dtype);
  const double of_score = dtype == DType::F32 ? 2.4e-7 : 1e-6;
  const double smallest = dtype == DType::F16 ? 0x1p-25 : 0;
  Reference result{std::vector<double>(static_cast<size_t>(q.numel())),
                   std::vector<double>(static_cast<size_t>(q.numel()))};
  std::vector<double> scores(static_cast<size_t>(S));
  const auto at = [&](const Tensor& x, int64_t b, int64_t t, int64_t h) {
    return x.data<float>() + ((b * x.dim(1) + t) * H + h) * D;
  };
  for (int64_t b = 0; b < B; ++b)
    for (int64_t h = 0; h < H; ++h)
      for (int64_t t = 0; t < T; ++t) {
        const int64_t seen = options.causal ? std::min(S, t + 1) : S;
        double highest = -INFINITY, total = 0, magnitude = 0;
        for (int64_t s = 0; s < seen; ++s) {
          double dot = 0, size = 0;
          for (int64_t c = 0; c < D; ++c) {
            const double product = scale * at(q, b, t, h)[c] * at(k, b, s, h)[c];
            dot += product;
            size += std::abs(product);
          }
          if (bias) {
            const int64_t bb = bias.dim(0) > 1 ? b : 0, bh = bias.dim(1) > 1 ? h : 0;
            const float added = bias.data<float>()[((bb * bias.dim(1) + bh) * T + t) * S + s];
            dot += added;
            size += std::isinf(added) ? 0 : std::abs(added);
          }
          scores[static_cast<size_t>(s)] = dot;
          magnitude = std::max(magnitude, size);
          highest = std::max(highest, dot);
        }
        if (highest == -INFINITY) continue;
        for (int64_t s = 0; s < seen; ++s) {
          double& weight = scores[static_cast<size_t>(s)];
          total += weight = std::exp(weight - highest);
        }
        for (int64_t c = 0; c < D; ++c) {
          double sum = 0, size = 0, values = 0;
          for (int64_t s = 0; s < seen; ++s) {
            const double value = at(v, b, s, h)[c], weight = scores[static_cast<size_t>(s)] / total;
            sum += weight * value;
            size += weight * std::abs(value);
            values += std::abs(value);
          }
          const auto i = static_cast<size_t>(((b * T + t) * H + h) * D + c);
          result.y[i] = sum;
          result.error[i] = (1.01 * epsilon + 1e-6 + of_score * magnitude) * size + epsilon * std::abs(sum) +
                            smallest * (values + 1);
        }
      }
  return result;
}

/// x but for one element.
Tensor with_element(const Tensor& x, int64_t i, float value) {
  std::vector<float> values(x.data<float>(), x.data<float>() + x.numel());
  values[static_cast<size_t>(i)] = value;
  return Tensor::from(x.shape(), values);
}

class CudaAttention : public OnGpu {
 protected:
  Tensor run(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& bias,
             const AttentionOptions& options, DType dtype) const {
    Tensor y = empty(q.shape(), dtype);
    gpu().attention(there(q, dtype), there(k, dtype), there(v, dtype), there(bias, dtype), options, y);
    return back(y);
  }

  /// Inputs are rounded to the dtype first.
  void expect_attention(Tensor q, Tensor k, Tensor v, Tensor bias, const AttentionOptions& options,
                        DType dtype) const {
    SCOPED_TRACE(to_string(q.shape()) + " " + to_string(k.shape()) + " heads " +
                 std::to_string(options.heads) + (options.causal ? " causal " : " ") +
                 std::string(to_string(dtype)));
    q = rounded_to(q, dtype), k = rounded_to(k, dtype), v = rounded_to(v, dtype);
    if (bias) bias = rounded_to(bias, dtype);
    const Tensor got = run(q, k, v, bias, options, dtype);
    const Reference expected = reference_attention(q, k, v, bias, options, dtype);
    int failures = 0;
    for (size_t i = 0; i < expected.y.size() && failures < 3; ++i) {
      const double value = got.data<float>()[i], difference = std::abs(value - expected.y[i]);
      if (difference <= expected.error[i]) continue;
      ++failures;
      ADD_FAILURE() << "at " << i << ": expected " << expected.y[i] << " within " << expected.error[i]
                    << ", got " << value;
    }
  }

  void expect_attention(int64_t B, int64_t T, int64_t S, int heads, int64_t D, bool causal,
                        DType dtype) const {
    const AttentionOptions options{.heads = heads, .causal = causal};
    expect_attention(random_tensor({B, T, heads * D}, 1, 2), random_tensor({B, S, heads * D}, 2, 2),
                     random_tensor({B, S, heads * D}, 3), {}, options, dtype);
  }
};

TEST_F(CudaAttention, EveryHeadSize) {
  for (DType dtype : kFloats)
    for (int64_t D : {1, 8, 30, 32, 33, 40, 48, 64, 72, 80, 90, 96, 128, 152, 160, 250, 256, 320, 511, 512})
      expect_attention(1, D <= 128 ? 67 : 35, 77, D <= 64 ? 2 : 1, D, false, dtype);
}

TEST_F(CudaAttention, ManyBlocks) {  // larger tiles of queries
  for (DType dtype : kFloats)
    for (int64_t D : {64, 80, 128}) expect_attention(2, 135, 33, 2, D, false, dtype);
}

TEST_F(CudaAttention, WideHeadsWithFewAndManyQueries) {
  for (DType dtype : kFloats)
    for (bool causal : {false, true})
      for (int64_t T : {9, 64, 65}) {
        if (T != 64) expect_attention(1, T, 70, 1, 512, causal, dtype);
        if (T == 64) expect_attention(1, T, 130, 1, 264, causal, dtype);
      }
}

TEST_F(CudaAttention, EdgesOfTiles) {
  for (DType dtype : kFloats)
    for (int64_t D : {40, 64})
      for (bool causal : {false, true}) {
        for (int64_t S : {1, 47, 48, 49, 63, 64, 65, 128, 129})
          expect_attention(1, 33, S, 1, D, causal, dtype);
        for (int64_t T : {1, 31, 64, 65, 128, 129}) expect_attention(1, T, 70, 1, D, causal, dtype);
      }
}

TEST_F(CudaAttention, CausalWithMoreQueriesThanKeysAndFewer) {
  for (DType dtype : kFloats)
    for (int64_t D : {32, 64, 80, 128, 160}) {
      expect_attention(1, 150, 60, 2, D, true, dtype);
      expect_attention(2, 60, 150, 1, D, true, dtype);
      expect_attention(1, 77, 77, 2, D, true, dtype);
    }
}

TEST_F(CudaAttention, BiasOfEveryShape) {
  constexpr int64_t B = 2, T = 21, S = 77;
  constexpr int kHeads = 3;
  for (DType dtype : kFloats)
    for (int64_t D : {16, 64, 300}) {
      const Tensor q = random_tensor({B, T, kHeads * D}, 1), k = random_tensor({B, S, kHeads * D}, 2),
                   v = random_tensor({B, S, kHeads * D}, 3);
      for (int64_t batch : {int64_t{1}, B})
        for (int64_t heads : {1, kHeads})
          for (bool causal : {false, true}) {
            if (D == 300 && (causal || batch != heads - 1)) continue;
            expect_attention(q, k, v, random_tensor({batch, heads, T, S}, 4, 3),
                             {.heads = kHeads, .causal = causal}, dtype);
          }
    }
}

TEST_F(CudaAttention, ScaleOfEitherSign) {
  for (DType dtype : kFloats)
    for (int64_t D : {32, 64, 512})
      for (float scale : {0.31f, -0.31f, 1.7f})
        expect_attention(random_tensor({1, 20, D}, 1), random_tensor({1, 80, D}, 2),
                         random_tensor({1, 80, D}, 3), {}, {.heads = 1, .scale = scale}, dtype);
}

TEST_F(CudaAttention, MinusInfinityHidesKeysAndRows) {
  constexpr int64_t T = 20, S = 150, D = 64;
  for (DType dtype : kFloats)
    for (int64_t columns : {D, int64_t{512}}) {
      Tensor bias = random_tensor({1, 1, T, S}, 4);
      float* b = bias.data<float>();
      for (int64_t t = 0; t < T; ++t)
        for (int64_t s = 0; s < S; ++s) {
          const bool hidden = t == 3 ? true : t == 4 ? s < 140 : t == 5 ? s > 2 : (s * 7 + t) % 3 == 0;
          if (hidden) b[t * S + s] = -kInfinity;
        }
      const Tensor q = random_tensor({1, T, columns}, 1), k = random_tensor({1, S, columns}, 2),
                   v = random_tensor({1, S, columns}, 3);
      expect_attention(q, k, v, bias, {.heads = 1}, dtype);
      const Tensor y = run(q, k, v, bias, {.heads = 1}, dtype);
      for (int64_t c = 0; c < columns; ++c) EXPECT_EQ(y.data<float>()[3 * columns + c], 0);
    }
}

TEST_F(CudaAttention, LargeScores) {  // far beyond what exp and f16 can hold
  for (DType dtype : kFloats)
    for (int64_t D : {40, 64, 512})
      expect_attention(random_tensor({1, 40, D}, 1, 200), random_tensor({1, 150, D}, 2, 200),
                       random_tensor({1, 150, D}, 3), {}, {.heads = 1}, dtype);
}

TEST_F(CudaAttention, GrowingMaximum) {  // every step shrinks what is there
  for (DType dtype : kFloats)
    for (int64_t D : {40, 64, 512}) {
      Tensor q = random_tensor({1, 10, D}, 1, 0.1f, 1), k = random_tensor({1, 260, D}, 2, 0.1f);
      for (int64_t s = 0; s < 260; ++s)
        for (int64_t c = 0; c < D; ++c)
          k.data<float>()[s * D + c] += 0.1f * static_cast<float>(s) / std::sqrt(static_cast<float>(D));
      expect_attention(q, k, random_tensor({1, 260, D}, 3), {}, {.heads = 1}, dtype);
    }
}

TEST_F(CudaAttention, NanGoesThrough) {
  constexpr int64_t T = 36, S = 70;
  for (DType dtype : kFloats)
    for (int64_t D : {40, 512})
      for (float bad : {kNan, kInfinity}) {
        const Tensor q = random_tensor({1, T, 2 * D}, 1), k = random_tensor({1, S, 2 * D}, 2),
                     v = random_tensor({1, S, 2 * D}, 3);
        const auto is_nan = [&](const Tensor& y, int64_t t, int64_t h) {
          int count = 0;
          for (int64_t c = 0; c < D; ++c) count += std::isnan(y.data<float>()[(t * 2 + h) * D + c]);
          EXPECT_TRUE(count == 0 || count == D);
          return count > 0;
        };
        const Tensor bad_q =
            with_element(q, (33 * 2 + 1) * D + 3, bad);  // scores of both signs: infinity - infinity
        Tensor y = run(bad_q, k, v, {}, {.heads = 2}, dtype);
        for (int64_t t = 0; t < T; ++t)
          for (int64_t h = 0; h < 2; ++h) EXPECT_EQ(is_nan(y, t, h), t == 33 && h == 1) << t << " " << h;

        const Tensor bad_k = with_element(k, (20 * 2 + 0) * D + 3, kNan);  // seen by the queries from 20 on
        y = run(q, bad_k, v, {}, {.heads = 2, .causal = true}, dtype);
        for (int64_t t = 0; t < T; ++t)
          for (int64_t h = 0; h < 2; ++h) EXPECT_EQ(is_nan(y, t, h), t >= 20 && h == 0) << t << " " << h;

        const Tensor bad_v = with_element(v, (66 * 2 + 1) * D + 5, bad);
        y = run(q, k, bad_v, {}, {.heads = 2}, dtype);
        for (int64_t i = 0; i < y.numel(); ++i)
          EXPECT_EQ(std::isfinite(y.data<float>()[i]), i % (2 * D) != D + 5) << i;
      }
}

TEST_F(CudaAttention, RowsAtOddPlaces) {  // views that do not begin at a multiple of 16 bytes
  constexpr int64_t T = 20, S = 70, D = 64;
  for (DType dtype : kFloats) {
    const auto shifted = [&](const Tensor& x) {
      std::vector<float> values(x.data<float>(), x.data<float>() + x.numel());
      values.insert(values.begin(), kNan);
      return there(Tensor::from({x.numel() + 1}, values), dtype).slice(1, x.numel() + 1).reshape(x.shape());
    };
    const Tensor q = random_tensor({1, T, D}, 1), k = random_tensor({1, S, D}, 2),
                 v = random_tensor({1, S, D}, 3);
    const Tensor expected = run(q, k, v, {}, {.heads = 1}, dtype);
    for (int which = 0; which < 4; ++which) {
      Tensor y = which == 3 ? shifted(q) : empty(q.shape(), dtype);
      gpu().attention(which == 0 ? shifted(q) : there(q, dtype), which == 1 ? shifted(k) : there(k, dtype),
                      which == 2 ? shifted(v) : there(v, dtype), {}, {.heads = 1}, y);
      EXPECT_TRUE(same_bits(back(y), expected)) << which << " " << to_string(dtype);
    }
  }
}

TEST_F(CudaAttention, NothingToDo) {
  for (DType dtype : kFloats) {
    Tensor none = empty({0, 4, 64}, dtype);
    gpu().attention(none, empty({0, 7, 64}, dtype), empty({0, 7, 64}, dtype), {}, {.heads = 2}, none);
    none = empty({3, 0, 64}, dtype);
    gpu().attention(none, empty({3, 7, 64}, dtype), empty({3, 7, 64}, dtype), {}, {.heads = 2}, none);
  }
}

TEST_F(CudaAttention, HeadsTooWide) {
  const Tensor x = there(random_tensor({1, 2, 520}, 1), DType::F16);
  Tensor y = empty(x.shape(), DType::F16);
  expect_error(ErrorKind::Unsupported, "at most 512 channels",
               [&] { gpu().attention(x, x, x, {}, {.heads = 1}, y); });
}

}  // namespace
}  // namespace sinopia
