#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "tests/cuda/on_gpu.h"

namespace sinopia {
namespace {

using namespace testing;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Inputs {
  Tensor q, k, v, bias, y, dy;  // f32, with values of the dtype
  AttentionOptions options;
};

struct Expected {
  std::vector<double> value, error;  // and what rounding may make of it
};

struct Gradients {
  Expected dq, dk, dv;
};

/// In double, with bounds for sums in f32 of products with weights that are rounded to the dtype.
Gradients expected_gradients(const Inputs& in, DType dtype) {
  const int64_t B = in.q.dim(0), T = in.q.dim(1), S = in.k.dim(1), H = in.options.heads, C = in.q.dim(2);
  const int64_t D = C / H;
  const double scale =
      in.options.scale != 0 ? static_cast<double>(in.options.scale) : 1 / std::sqrt(static_cast<double>(D));
  const auto q = doubles(in.q), k = doubles(in.k), v = doubles(in.v), y = doubles(in.y), dy = doubles(in.dy);
  const auto bias = in.bias ? doubles(in.bias) : std::vector<double>();
  const double f32 = epsilon_of(DType::F32), half = dtype == DType::F32 ? 0 : epsilon_of(dtype);
  // Half the smallest f16, which ds keeps to as if the largest dy were 1/16, and weights as if they were 2^8.
  const double tiny = dtype == DType::F16 ? 0x1p-25 : 0;
  double largest = 0;
  for (double x : dy) largest = std::max(largest, std::abs(x));
  const auto zeros = [](size_t count) {
    return Expected{std::vector<double>(count), std::vector<double>(count)};
  };
  Gradients result{zeros(q.size()), zeros(k.size()), zeros(k.size())};
  std::vector<double> p(static_cast<size_t>(S)), relative(static_cast<size_t>(S));
  for (int64_t bh = 0; bh < B * H; ++bh) {
    const int64_t b = bh / H, h = bh % H;
    for (int64_t t = 0; t < T; ++t) {
      const auto row = static_cast<size_t>((b * T + t) * C + h * D);
      const int64_t seen = in.options.causal ? std::min(S, t + 1) : S;
      double highest = -INFINITY, total = 0, delta = 0, delta_size = 0;
      for (size_t s = 0; s < static_cast<size_t>(seen); ++s) {
        const size_t key =
            (static_cast<size_t>(b * S) + s) * static_cast<size_t>(C) + static_cast<size_t>(h * D);
        double score = 0, size = 0;
        for (size_t c = 0; c < static_cast<size_t>(D); ++c) {
          score += scale * q[row + c] * k[key + c];
          size += std::abs(scale * q[row + c] * k[key + c]);
        }
        if (in.bias) {
          const int64_t of = (in.bias.dim(0) > 1 ? b * in.bias.dim(1) : 0) + (in.bias.dim(1) > 1 ? h : 0);
          const double more = bias[static_cast<size_t>((of * T + t) * S) + s];
          score += more;
          if (std::isfinite(more)) size += std::abs(more);
        }
        p[s] = score;
        relative[s] = (16 + 8 * size) * f32;
        highest = std::max(highest, score);
      }
      if (highest == -INFINITY) continue;
      for (size_t s = 0; s < static_cast<size_t>(seen); ++s) total += p[s] = std::exp(p[s] - highest);
      for (size_t c = 0; c < static_cast<size_t>(D); ++c) {
        delta += dy[row + c] * y[row + c];
        delta_size += std::abs(dy[row + c] * y[row + c]);
      }
      for (size_t s = 0; s < static_cast<size_t>(seen); ++s) {
        const size_t key =
            (static_cast<size_t>(b * S) + s) * static_cast<size_t>(C) + static_cast<size_t>(h * D);
        p[s] /= total;
        double dp = 0, dp_size = 0;
        for (size_t c = 0; c < static_cast<size_t>(D); ++c) {
          dp += dy[row + c] * v[key + c];
          dp_size += std::abs(dy[row + c] * v[key + c]);
        }
        const double ds = p[s] * (dp - delta);
        const double ds_error = std::abs(ds) * (relative[s] + half) +
                                p[s] * (dp_size + delta_size) * 8 * f32 + tiny * 16 * largest;
        for (size_t c = 0; c < static_cast<size_t>(D); ++c) {
          result.dq.value[row + c] += scale * ds * k[key + c];
          result.dq.error[row + c] += scale * ds_error * std::abs(k[key + c]);
          result.dk.value[key + c] += scale * ds * q[row + c];
          result.dk.error[key + c] += scale * ds_error * std::abs(q[row + c]);
          result.dv.value[key + c] += p[s] * dy[row + c];
          result.dv.error[key + c] += (p[s] * (relative[s] + half) + tiny * 0x1p-8) * std::abs(dy[row + c]);
        }
      }
    }
  }
  for (Expected* x : {&result.dq, &result.dk, &result.dv})
    for (size_t i = 0; i < x->value.size(); ++i)
      x->error[i] += std::abs(x->value[i]) * (half + 4 * f32) + tiny + 1e-30;
  return result;
}

void expect_within(const std::string& what, const Tensor& got, const Expected& expected) {
  const std::vector<double> values = doubles(got);
  ASSERT_EQ(values.size(), expected.value.size());
  double worst = 0;
  size_t at = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double ratio = std::abs(values[i] - expected.value[i]) / expected.error[i];
    if (!(ratio <= worst)) worst = ratio, at = i;
    if (std::isnan(ratio)) break;
  }
  EXPECT_LE(worst, 1) << what << " at " << at << " of " << to_string(got.shape()) << ": " << values[at]
                      << " for " << expected.value[at] << ", error bound " << expected.error[at];
}

class CudaAttentionBackward : public OnGpu {
 protected:
  struct Results {
    Tensor dq, dk, dv;
  };

  static Inputs inputs(int64_t B, int64_t T, int64_t S, int64_t D, const AttentionOptions& options,
                       DType dtype, Tensor bias = {}, unsigned seed = 1, float of_dy = 1) {
    const int64_t C = options.heads * D;
    Inputs in{rounded_to(random_tensor({B, T, C}, seed), dtype),
              rounded_to(random_tensor({B, S, C}, seed + 1), dtype),
              rounded_to(random_tensor({B, S, C}, seed + 2, 1, 0.5f), dtype),
              bias ? rounded_to(bias, dtype) : bias,
              {},
              rounded_to(random_tensor({B, T, C}, seed + 3, of_dy), dtype),
              options};
    with_y(in, dtype);
    return in;
  }

  /// What the forward pass gives.
  static void with_y(Inputs& in, DType dtype) {
    in.y = Tensor::empty(in.q.shape());
    cpu_kernels().attention(in.q, in.k, in.v, in.bias, in.options, in.y);
    in.y = rounded_to(in.y, dtype);
  }

  Results run(const Inputs& in, DType dtype) const {
    Tensor dq = empty(in.q.shape(), dtype), dk = empty(in.k.shape(), dtype), dv = empty(in.k.shape(), dtype);
    gpu().attention_backward(there(in.q, dtype), there(in.k, dtype), there(in.v, dtype),
                             there(in.bias, dtype), in.options, there(in.y, dtype), there(in.dy, dtype), dq,
                             dk, dv);
    return {back(dq), back(dk), back(dv)};
  }

  void check(const Inputs& in, DType dtype) const {
    SCOPED_TRACE(fmt::format("{} q {} k {} heads {} causal {} bias {}", to_string(dtype),
                             to_string(in.q.shape()), to_string(in.k.shape()), in.options.heads,
                             in.options.causal, describe(in.bias)));
    const Results got = run(in, dtype);
    const Gradients expected = expected_gradients(in, dtype);
    expect_within("dq", got.dq, expected.dq);
    expect_within("dk", got.dk, expected.dk);
    expect_within("dv", got.dv, expected.dv);
  }
};

TEST_F(CudaAttentionBackward, EveryHeadSize) {
  for (DType dtype : kFloats)
    for (int64_t D : {1, 7, 16, 32, 40, 44, 64, 72, 80, 96, 100, 128, 160, 200, 256, 264, 512})
      check(inputs(1, D > 160 ? 35 : 67, D > 160 ? 33 : 77, D, {.heads = D > 100 ? 1 : 2}, dtype), dtype);
}

TEST_F(CudaAttentionBackward, BeyondTheWidestHead) {
  for (DType dtype : kFloats) check(inputs(1, 10, 20, 530, {.heads = 1}, dtype), dtype);
}

TEST_F(CudaAttentionBackward, OddNumbersOfTokens) {
  unsigned seed = 10;
  for (DType dtype : kFloats)
    for (const auto& [T, S] : {std::pair<int64_t, int64_t>{1, 1}, {1, 130}, {130, 1}, {65, 63}, {64, 128}})
      check(inputs(2, T, S, 40, {.heads = 3}, dtype, {}, seed++), dtype);
}

TEST_F(CudaAttentionBackward, ManyQueriesOfFewKeys) {
  for (DType dtype : kFloats)
    for (bool causal : {false, true})
      check(inputs(1, 801, 77, 20, {.heads = 1, .scale = 0, .causal = causal}, dtype), dtype);
}

TEST_F(CudaAttentionBackward, Causal) {
  for (DType dtype : kFloats) {
    for (const auto& [T, S] : {std::pair<int64_t, int64_t>{77, 77}, {131, 131}, {20, 100}, {140, 30}})
      check(inputs(1, T, S, 24, {.heads = 2, .scale = 0.3f, .causal = true}, dtype), dtype);
    check(inputs(1, 70, 70, 160, {.heads = 1, .causal = true}, dtype), dtype);
  }
}

TEST_F(CudaAttentionBackward, KeysThatNobodySeesHaveNoGradient) {
  for (DType dtype : kFloats) {
    Inputs in = inputs(1, 40, 200, 16, {.heads = 1, .causal = true}, dtype);
    for (int64_t i = 100 * 16; i < in.k.numel(); ++i) in.k.data<float>()[i] = 3e4f;
    const Results got = run(in, dtype);
    for (int64_t i = 40 * 16; i < in.k.numel(); ++i) {
      ASSERT_EQ(got.dk.data<float>()[i], 0) << i;
      ASSERT_EQ(got.dv.data<float>()[i], 0) << i;
    }
  }
}

TEST_F(CudaAttentionBackward, BiasesOfEveryShape) {
  for (DType dtype : kFloats)
    for (const auto& [B, H] : {std::pair<int64_t, int64_t>{1, 1}, {2, 1}, {1, 3}, {2, 3}})
      for (bool causal : {false, true})
        check(inputs(2, 69, 75, 16, {.heads = 3, .scale = 0, .causal = causal}, dtype,
                     random_tensor({B, H, 69, 75}, 5, 2)),
              dtype);
}

TEST_F(CudaAttentionBackward, MaskedKeysAndRowsHaveNoGradient) {
  const int64_t T = 20, S = 150, D = 24;
  for (DType dtype : kFloats) {
    Tensor bias = Tensor::empty({2, 1, T, S});
    for (int64_t i = 0; i < bias.numel(); ++i) {
      const int64_t t = i / S % T, s = i % S;
      bias.data<float>()[i] = t == 7 || s < 70 || (s * 7 + t) % 3 == 0 ? -kInfinity : 0;
    }
    Inputs in = inputs(2, T, S, D, {.heads = 1}, dtype, bias);
    check(in, dtype);
    const Results got = run(in, dtype);
    for (int64_t c = 0; c < D; ++c) EXPECT_EQ(got.dq.data<float>()[7 * D + c], 0);
    for (int64_t i = 0; i < 70 * D; ++i) {
      ASSERT_EQ(got.dk.data<float>()[i], 0) << i;
      ASSERT_EQ(got.dv.data<float>()[i], 0) << i;
    }
  }
}

TEST_F(CudaAttentionBackward, EverythingMasked) {
  for (DType dtype : kFloats) {
    Tensor bias = Tensor::empty({1, 1, 9, 12});
    cpu_kernels().fill(bias, -kInfinity);
    const Results got = run(inputs(1, 9, 12, 8, {.heads = 2}, dtype, bias), dtype);
    for (const Tensor* x : {&got.dq, &got.dk, &got.dv})
      for (float value : x->values<float>()) ASSERT_EQ(value, 0);
  }
}

TEST_F(CudaAttentionBackward, LargeScores) {
  // Weights near 1 and 0, and scores whose powers would overflow without the maximum taken off.
  for (DType dtype : kFloats) {
    Inputs in = inputs(1, 70, 140, 32, {.heads = 1, .scale = 1}, dtype);
    for (Tensor* x : {&in.q, &in.k})
      for (int64_t i = 0; i < x->numel(); ++i) x->data<float>()[i] = std::round(x->data<float>()[i] * 8);
    with_y(in, dtype);
    check(in, dtype);
  }
}

TEST_F(CudaAttentionBackward, SmallGradientsKeepTheirDigits) {
  // Products of these with weights are below what f16 can hold.
  for (DType dtype : kFloats) {
    Inputs in = inputs(1, 64, 300, 32, {.heads = 1}, dtype, {}, 3, 0x1p-11f);
    for (int64_t i = 0; i < in.k.numel(); ++i) in.v.data<float>()[i] -= 0.5f;
    in.v = rounded_to(in.v, dtype);
    with_y(in, dtype);
    check(in, dtype);
  }
}

TEST_F(CudaAttentionBackward, NaNGoesOn) {
  for (DType dtype : kFloats) {
    Inputs in = inputs(1, 80, 90, 16, {.heads = 1}, dtype);
    in.q.data<float>()[3 * 16 + 5] = std::nanf("");
    const Results got = run(in, dtype);
    for (int64_t c = 0; c < 16; ++c) {
      EXPECT_TRUE(std::isnan(got.dq.data<float>()[3 * 16 + c]));
      EXPECT_FALSE(std::isnan(got.dq.data<float>()[70 * 16 + c]));
      EXPECT_TRUE(std::isnan(got.dk.data<float>()[c]));
      EXPECT_TRUE(std::isnan(got.dv.data<float>()[89 * 16 + c]));
    }
    Inputs other = inputs(1, 80, 90, 16, {.heads = 1}, dtype);
    other.dy.data<float>()[70 * 16 + 5] = std::nanf("");
    const Results of_dy = run(other, dtype);
    for (int64_t c = 0; c < 16; ++c) {
      EXPECT_TRUE(std::isnan(of_dy.dq.data<float>()[70 * 16 + c]));
      EXPECT_TRUE(std::isnan(of_dy.dk.data<float>()[89 * 16 + c]));
      EXPECT_EQ(std::isnan(of_dy.dv.data<float>()[c]), c == 5);
    }
  }
}

TEST_F(CudaAttentionBackward, UnalignedTensors) {
  for (DType dtype : kFloats) {
    const Inputs in = inputs(1, 21, 35, 16, {.heads = 2}, dtype);
    const Results aligned = run(in, dtype);
    const auto shifted = [&](const Tensor& x) {
      Tensor place = empty({1 + x.numel()}, dtype);
      Tensor one = Tensor::empty({1});
      one.data<float>()[0] = 7;
      Tensor both = Tensor::empty({1 + x.numel()});
      std::memcpy(both.data<float>() + 1, x.raw(), x.bytes());
      both.data<float>()[0] = 7;
      return there(both, dtype).slice(1, 1 + x.numel()).reshape(x.shape());
    };
    Tensor dq = empty(in.q.shape(), dtype), dk = empty(in.k.shape(), dtype), dv = empty(in.k.shape(), dtype);
    gpu().attention_backward(shifted(in.q), shifted(in.k), shifted(in.v), {}, in.options, shifted(in.y),
                             shifted(in.dy), dq, dk, dv);
    EXPECT_TRUE(same_bits(back(dq), aligned.dq));
    EXPECT_TRUE(same_bits(back(dk), aligned.dk));
    EXPECT_TRUE(same_bits(back(dv), aligned.dv));
  }
}

TEST_F(CudaAttentionBackward, NothingToDo) {
  for (DType dtype : kFloats) {
    const AttentionOptions options{.heads = 2};
    const auto zeros_only = [](const Tensor& x) {
      for (float value : x.values<float>()) ASSERT_EQ(value, 0);
    };
    const auto run_empty = [&](int64_t B, int64_t T, int64_t S) {
      const Tensor q = Tensor::empty({B, T, 16}), k = Tensor::empty({B, S, 16});
      cpu_kernels().fill(const_cast<Tensor&>(q), 1);
      cpu_kernels().fill(const_cast<Tensor&>(k), 1);
      return run({q, k, k, {}, q, q, options}, dtype);
    };
    zeros_only(run_empty(1, 3, 0).dq);
    const Results without_queries = run_empty(1, 0, 3);
    zeros_only(without_queries.dk);
    zeros_only(without_queries.dv);
    run_empty(0, 3, 3);
  }
}

TEST_F(CudaAttentionBackward, AgreesWithTheCpu) {
  const Inputs in = inputs(2, 100, 77, 40, {.heads = 2}, DType::F32);
  const Results got = run(in, DType::F32);
  Tensor dq = Tensor::empty(in.q.shape()), dk = Tensor::empty(in.k.shape()), dv = Tensor::empty(in.k.shape());
  cpu_kernels().attention_backward(in.q, in.k, in.v, in.bias, in.options, in.y, in.dy, dq, dk, dv);
  expect_close(got.dq, doubles(dq), 2e-6, 0);
  expect_close(got.dk, doubles(dk), 2e-6, 0);
  expect_close(got.dv, doubles(dv), 2e-6, 0);
}

}  // namespace
}  // namespace sinopia
