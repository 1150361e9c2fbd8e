#include "tests/backend/product_reference.h"

namespace sinopia {
namespace {

using namespace testing;

struct Reference {
  std::vector<double> y;
  std::vector<double> error;  // what rounding may make of it
};

Reference reference_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& bias,
                              const AttentionOptions& options) {
  const int64_t B = q.dim(0), T = q.dim(1), S = k.dim(1), H = options.heads, D = q.dim(2) / H;
  const double scale = options.scale != 0 ? options.scale : 1 / std::sqrt(static_cast<double>(D));
  const auto qs = doubles(q), ks = doubles(k), vs = doubles(v), biases = doubles(bias);
  Reference result{std::vector<double>(q.numel()), std::vector<double>(q.numel())};
  std::vector<double> scores(S);
  for (int64_t b = 0; b < B; ++b) {
    for (int64_t h = 0; h < H; ++h) {
      for (int64_t t = 0; t < T; ++t) {
        const int64_t seen = options.causal ? std::min(S, t + 1) : S;
        double highest = -INFINITY, total = 0, magnitude = 0;
        for (int64_t s = 0; s < seen; ++s) {
          Sum dot;
          for (int64_t c = 0; c < D; ++c)
            dot.add(scale * qs[((b * T + t) * H + h) * D + c] * ks[((b * S + s) * H + h) * D + c]);
          magnitude = std::max(magnitude, dot.magnitude);
          scores[s] = dot.value;
          if (bias) {
            const int64_t bb = bias.dim(0) > 1 ? b : 0, bh = bias.dim(1) > 1 ? h : 0;
            scores[s] += biases[((bb * bias.dim(1) + bh) * T + t) * S + s];
          }
          highest = std::max(highest, scores[s]);
        }
        if (highest == -INFINITY) continue;
        for (int64_t s = 0; s < seen; ++s) total += scores[s] = std::exp(scores[s] - highest);
        for (int64_t c = 0; c < D; ++c) {
          Sum sum;
          for (int64_t s = 0; s < seen; ++s) sum.add(scores[s] / total * vs[((b * S + s) * H + h) * D + c]);
          // An error e in a score makes its weight wrong by the factor 1 + e; a score is rounded some four
          // times.
          result.y[((b * T + t) * H + h) * D + c] = sum.value;
          result.error[((b * T + t) * H + h) * D + c] = (6e-7 + 2.4e-7 * magnitude) * sum.magnitude;
        }
      }
    }
  }
  return result;
}

Tensor run_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& bias,
                     const AttentionOptions& options) {
  Tensor y = Tensor::empty(q.shape());
  cpu_kernels().fill(y, std::nanf(""));
  cpu_kernels().attention(q, k, v, bias, options, y);
  return y;
}

/// `tolerance` is relative to the spread. An error e in a score changes its weight by the factor 1 + e, and
/// scores of magnitude m are rounded to about m * 1e-7.
void check_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& bias,
                     const AttentionOptions& options) {
  const Tensor y = run_attention(q, k, v, bias, options);
  const Reference reference = reference_attention(q, k, v, bias, options);
  double worst = 0;
  int64_t at = 0;
  for (int64_t i = 0; i < y.numel(); ++i) {
    const double error = std::abs(y.data<float>()[i] - reference.y[i]);
    const double ratio = error / (reference.error[i] + 1e-30);
    if (!(ratio <= worst)) worst = ratio, at = i;
  }
  EXPECT_LE(worst, 1) << "at " << at << " of " << to_string(y.shape()) << ": " << y.data<float>()[at]
                      << " for " << reference.y[at];
}

TEST(Attention, MatchesDoubleForAnySize) {
  for_each_instruction_set([] {
    Random random(1);
    for (int64_t D : {1, 3, 8, 13, 24, 40, 64, 80, 88, 160, 200}) {
      for (int i = 0; i < 6; ++i) {
        const int64_t B = random.integer(1, 2), H = random.integer(1, 3);
        const int64_t T = random.integer(1, i < 4 ? 60 : 150), S = random.integer(1, i < 4 ? 60 : 400);
        const bool causal = i & 1;
        SCOPED_TRACE(fmt::format("B={} H={} T={} S={} D={} causal={}", B, H, T, S, D, causal));
        const Tensor q = random.normal({B, T, H * D}), k = random.normal({B, S, H * D});
        const Tensor v = random.normal({B, S, H * D});
        const float scale = i % 3 ? 0 : 0.3f;
        Tensor bias;
        if (i % 3 == 1) bias = random.normal({i == 1 ? 1 : B, i == 1 ? H : 1, T, S});
        check_attention(q, k, v, bias, {static_cast<int>(H), scale, causal});
      }
    }
  });
}

TEST(Attention, WideHeads) {
  Random random(2);
  const Tensor q = random.normal({1, 70, 512}), k = random.normal({1, 300, 512}),
               v = random.normal({1, 300, 512});
  check_attention(q, k, v, {}, {.heads = 1});
}

TEST(Attention, LargeScores) {
  for_each_instruction_set([] {
    Random random(3);
    // Scores of about +-1e4 leave one weight near 1; ties are broken by differences of whole units.
    const Tensor q = random.normal({1, 50, 80}, 100), k = random.normal({1, 300, 80}, 100);
    const Tensor v = random.normal({1, 300, 80});
    check_attention(q, k, v, {}, {.heads = 2, .scale = 0.16f});
    // The same, but each score is exact, so that the weights are too.
    Tensor one = Tensor::empty({1, 9, 1}), key = Tensor::empty({1, 257, 1});
    for (int i = 0; i < 9; ++i) one.data<float>()[i] = static_cast<float>(i - 4) * 2500;
    for (int i = 0; i < 257; ++i) key.data<float>()[i] = static_cast<float>(i % 17 - 8) / 2;
    const Tensor value = random.normal({1, 257, 1});
    check_attention(one, key, value, {}, {.heads = 1, .scale = 1});
  });
}

TEST(Attention, MaskedKeysHaveNoWeightAndFullyMaskedRowsAreZero) {
  for_each_instruction_set([] {
    Random random(4);
    const int64_t T = 20, S = 333, D = 24;
    const Tensor q = random.normal({2, T, D}), k = random.normal({2, S, D});
    Tensor v = random.normal({2, S, D});
    Tensor bias = Tensor::empty({2, 1, T, S});
    for (int64_t i = 0; i < bias.numel(); ++i) {
      const int64_t t = i / S % T, s = i % S;
      bias.data<float>()[i] = t == 7 || s < 150 || (s * 7 + t) % 3 == 0 ? -INFINITY : 0;
    }
    check_attention(q, k, v, bias, {.heads = 1});
    const Tensor y = run_attention(q, k, v, bias, {.heads = 1});
    for (int64_t c = 0; c < D; ++c) EXPECT_EQ(y.data<float>()[7 * D + c], 0);
  });
}

TEST(Attention, NaNStaysNaN) {
  for_each_instruction_set([] {
    Random random(5);
    const int64_t S = 200, D = 16;
    Tensor q = random.normal({1, 3, D}), k = random.normal({1, S, D}), v = random.normal({1, S, D});
    q.data<float>()[D + 5] = std::nanf("");
    const Tensor y = run_attention(q, k, v, {}, {.heads = 1});
    for (int64_t c = 0; c < D; ++c) {
      EXPECT_FALSE(std::isnan(y.data<float>()[c]));
      EXPECT_TRUE(std::isnan(y.data<float>()[D + c]));
      EXPECT_FALSE(std::isnan(y.data<float>()[2 * D + c]));
    }
  });
}

TEST(Attention, CausalIgnoresLaterKeysEntirely) {
  for_each_instruction_set([] {
    Random random(6);
    const int64_t T = 140, D = 16;
    const Tensor q = random.normal({1, T, D});
    Tensor k = random.normal({1, T, D}), v = random.normal({1, T, D});
    const AttentionOptions options{.heads = 2, .scale = 0, .causal = true};
    const Tensor before = run_attention(q, k, v, {}, options);
    for (int64_t i = 100 * D; i < T * D; ++i) k.data<float>()[i] = 1e30f;
    const Tensor after = run_attention(q, k, v, {}, options);
    for (int64_t i = 0; i < 100 * D; ++i) ASSERT_EQ(before.data<float>()[i], after.data<float>()[i]) << i;
  });
}

TEST(Attention, SameBitsOnAnyThreads) {
  Random random(7);
  for (int64_t D : {40, 64}) {
    const Tensor q = random.normal({2, 130, 3 * D}), k = random.normal({2, 300, 3 * D});
    const Tensor v = random.normal({2, 300, 3 * D});
    expect_same_bits_on_any_threads([&] { return run_attention(q, k, v, {}, {.heads = 3}); });
  }
}

// A token that sees no key has y = 0 whatever its inputs are: no gradient comes from it. The others' are
// those of attention without it.
TEST(Attention, FullyMaskedRowsHaveNoGradient) {
  for_each_instruction_set([] {
    for (const int64_t S : {5, 100}) {
      Random random(8);
      const int64_t T = 70, H = 2, D = 12, masked = 66;
      const AttentionOptions options{.heads = H};
      const Tensor q = random.normal({1, T, H * D}), k = random.normal({1, S, H * D}),
                   v = random.normal({1, S, H * D}), dy = random.normal({1, T, H * D});
      Tensor bias = random.normal({1, 1, T, S}),
             dy_of_others = Tensor::from(dy.shape(), dy.to_vector<float>());
      for (int64_t s = 0; s < S; ++s) bias.data<float>()[masked * S + s] = -INFINITY;
      for (int64_t c = 0; c < H * D; ++c) dy_of_others.data<float>()[masked * H * D + c] = 0;
      const Tensor y = run_attention(q, k, v, bias, options);
      const auto backward = [&](const Tensor& from) {
        std::vector<Tensor> result{Tensor::empty(q.shape()), Tensor::empty(k.shape()),
                                   Tensor::empty(v.shape())};
        cpu_kernels().attention_backward(q, k, v, bias, options, y, from, result[0], result[1], result[2]);
        return result;
      };
      const std::vector<Tensor> got = backward(dy), expected = backward(dy_of_others);
      for (int64_t c = 0; c < H * D; ++c) EXPECT_EQ(got[0].data<float>()[masked * H * D + c], 0);
      for (size_t i = 0; i < 3; ++i) {
        for (int64_t j = 0; j < got[i].numel(); ++j) {
          ASSERT_TRUE(std::isfinite(got[i].data<float>()[j])) << "tensor " << i << " at " << j;
          ASSERT_EQ(got[i].data<float>()[j], expected[i].data<float>()[j]) << "tensor " << i << " at " << j;
        }
      }
    }
  });
}

}  // namespace
}  // namespace sinopia
