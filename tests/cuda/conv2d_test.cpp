#include <array>
#include <optional>

#include <fmt/format.h>

#include "sinopia/backend/cuda/conv2d_plans.h"
#include "sinopia/backend/cuda/cublaslt.h"
#include "sinopia/backend/cuda/packed_weights.h"
#include "sinopia/backend/cuda/reclaim.h"
#include "sinopia/backend/graph_recording.h"
#include "sinopia/ops/shape.h"
#include "sinopia/tensor/allocator.h"
#include "tests/cuda/on_gpu.h"

namespace sinopia {
namespace {

using namespace testing;

enum class Add { None, Pixels, Images };

struct Case {
  int64_t N, H, W, I, O, KH, KW;
  int stride = 1;
  Padding padding = {};
  int64_t out_height() const { return (H + padding.top + padding.bottom - KH) / stride + 1; }
  int64_t out_width() const { return (W + padding.left + padding.right - KW) / stride + 1; }
  Shape y() const { return {N, out_height(), out_width(), O}; }
  Conv2dOptions options() const {
    return {.stride = stride, .padding = padding, .method = Conv2dMethod::Direct};
  }
  std::string name() const {
    return fmt::format("N={} H={} W={} I={} O={} kernel={}x{} stride={} padding={},{},{},{}", N, H, W, I, O,
                       KH, KW, stride, padding.top, padding.left, padding.bottom, padding.right);
  }
};

Tensor cpu(const Shape& shape) { return Tensor::empty(shape); }

Tensor magnitudes(const Tensor& x) {
  if (!x) return x;
  Tensor y = cpu(x.shape());
  cpu_kernels().unary(UnaryOp::Abs, x, y);
  return y;
}

/// Each |got - expected| <= tolerance, all NaN where NaN is expected.
void expect_within(const Tensor& got, const Tensor& expected, const std::vector<double>& tolerance) {
  ASSERT_EQ(got.shape(), expected.shape());
  const auto g = doubles(got), e = doubles(expected);
  int failures = 0;
  for (size_t i = 0; i < g.size() && failures < 5; ++i) {
    if (std::isfinite(e[i]) ? std::abs(g[i] - e[i]) <= tolerance[i]
                            : (std::isnan(e[i]) ? std::isnan(g[i]) : g[i] == e[i]))
      continue;
    ++failures;
    ADD_FAILURE() << "at " << i << ": expected " << e[i] << ", got " << g[i] << ", allowed " << tolerance[i];
  }
}

/// What f32 sums of so many terms may be off, given the sums of their magnitudes, and their rounding to
/// dtype.
std::vector<double> tolerance_of(const Tensor& sums, const Tensor& sums_of_magnitudes, double terms,
                                 DType dtype) {
  auto result = doubles(sums_of_magnitudes);
  const auto value = doubles(sums);
  const double rounding = dtype == DType::F32 ? 0 : epsilon_of(dtype);
  for (size_t i = 0; i < result.size(); ++i)
    result[i] = kEpsilon * (8 + 2 * std::sqrt(terms)) * result[i] + rounding * 1.01 * std::abs(value[i]) +
                1e-7 * (rounding > 0);
  return result;
}

class Conv2dOnGpu : public OnGpu {
 protected:
  void SetUp() override {
    OnGpu::SetUp();
    cuda::set_conv2d_planning({});
  }
  void TearDown() override {
    cuda::set_conv2d_planning({});
    cuda::packed_weights::clear();
  }

  struct Inputs {
    Tensor x, w, bias, add;  // on the CPU, rounded as the GPU has them
    Tensor gx, gw, gbias, gadd;
  };
  Inputs inputs(const Case& c, DType dtype, DType w_dtype, bool bias, Add add, unsigned seed) const {
    Inputs in;
    in.x = rounded_to(random_tensor({c.N, c.H, c.W, c.I}, seed), dtype);
    const Tensor w =
        random_tensor({c.O, c.I, c.KH, c.KW}, seed + 1, 1 / std::sqrt(static_cast<float>(c.I * c.KH * c.KW)));
    in.gx = there(in.x, dtype);
    in.gw = there(w, w_dtype);
    in.w = rounded_to(rounded_to(w, w_dtype), dtype);
    if (bias) {
      in.bias = rounded_to(random_tensor({c.O}, seed + 2), w_dtype);
      in.gbias = there(in.bias, w_dtype);
    }
    if (add != Add::None) {
      in.add = rounded_to(random_tensor(add == Add::Pixels ? c.y() : Shape{c.N, c.O}, seed + 3), dtype);
      in.gadd = there(in.add, dtype);
    }
    return in;
  }

  Tensor run(const Case& c, const Inputs& in, Activation activation, DType dtype) const {
    Tensor y = empty(c.y(), dtype);
    gpu().conv2d(in.gx, in.gw, in.gbias, in.gadd, c.options(), activation, y);
    return y;
  }

  void check(const Case& c, const Inputs& in, Activation activation, DType dtype, const Tensor& got) const {
    Tensor expected = cpu(c.y()), sums = cpu(c.y()), all = cpu(c.y());
    cpu_kernels().conv2d(in.x, in.w, in.bias, in.add, c.options(), activation, expected);
    cpu_kernels().conv2d(in.x, in.w, {}, {}, c.options(), Activation::None, sums);
    cpu_kernels().conv2d(magnitudes(in.x), magnitudes(in.w), magnitudes(in.bias), magnitudes(in.add),
                         c.options(), Activation::None, all);
    auto tolerance = tolerance_of(sums, all, static_cast<double>(c.I * c.KH * c.KW), dtype);
    const auto e = doubles(expected);
    // A bias of another dtype may be rounded. No activation's slope is above 1.13. Then the result's own
    // rounding, and the halves' quick exponential.
    const double rounding = dtype == DType::F32 ? 0 : epsilon_of(dtype);
    const double own = dtype == DType::F32 ? 4 * kEpsilon : 1.05 * epsilon_of(dtype);
    const auto bias = in.bias ? doubles(in.bias) : std::vector<double>(static_cast<size_t>(c.O));
    for (size_t i = 0; i < e.size(); ++i)
      tolerance[i] =
          1.13 * (tolerance[i] + rounding * std::abs(bias[i % bias.size()])) + own * std::abs(e[i]);
    expect_within(back(got), expected, tolerance);
  }

  void check_forward(const Case& c, DType dtype, DType w_dtype, bool bias, Add add, Activation activation,
                     unsigned seed) const {
    SCOPED_TRACE(fmt::format("{} {} weights {} bias {} add {} activation {}", c.name(), to_string(dtype),
                             to_string(w_dtype), bias, static_cast<int>(add), static_cast<int>(activation)));
    const Inputs in = inputs(c, dtype, w_dtype, bias, add, seed);
    check(c, in, activation, dtype, run(c, in, activation, dtype));
  }

  void check_backward(const Case& c, DType dtype, DType w_dtype, unsigned seed) const {
    SCOPED_TRACE(c.name() + " " + to_string(dtype));
    const Inputs in = inputs(c, dtype, w_dtype, false, Add::None, seed);
    const Tensor dy = rounded_to(random_tensor(c.y(), seed + 4), dtype), gdy = there(dy, dtype);
    Tensor dx = cpu(in.x.shape()), dw = cpu(in.w.shape()), all_dx = cpu(in.x.shape()),
           all_dw = cpu(in.w.shape());
    cpu_kernels().conv2d_backward_input(dy, in.w, c.options(), dx);
    cpu_kernels().conv2d_backward_input(magnitudes(dy), magnitudes(in.w), c.options(), all_dx);
    cpu_kernels().conv2d_backward_weight(in.x, dy, c.options(), dw);
    cpu_kernels().conv2d_backward_weight(magnitudes(in.x), magnitudes(dy), c.options(), all_dw);
    Tensor got_dx = empty(in.x.shape(), dtype), got_dw = empty(in.w.shape(), dtype);
    gpu().conv2d_backward_input(gdy, in.gw, c.options(), got_dx);
    gpu().conv2d_backward_weight(in.gx, gdy, c.options(), got_dw);
    expect_within(back(got_dx), dx, tolerance_of(dx, all_dx, static_cast<double>(c.O * c.KH * c.KW), dtype));
    expect_within(back(got_dw), dw,
                  tolerance_of(dw, all_dw, static_cast<double>(c.N * c.out_height() * c.out_width()), dtype));
  }
};

const std::vector<Case> kCases{
    {2, 9, 11, 16, 24, 3, 3, 1, Padding::same(1)},
    {1, 8, 7, 4, 20, 3, 3, 1, Padding::same(1)},
    {2, 6, 5, 9, 16, 3, 3, 1, Padding::same(1)},
    {1, 7, 9, 20, 3, 3, 3, 1, Padding::same(1)},
    {1, 7, 9, 20, 4, 3, 3, 1, Padding::same(1)},
    {2, 8, 10, 16, 16, 3, 3, 2, Padding::same(1)},
    {1, 8, 10, 16, 8, 3, 3, 2, {0, 0, 1, 1}},
    {1, 9, 9, 20, 8, 3, 3, 2, {0, 0, 1, 1}},
    {1, 9, 7, 5, 6, 3, 3, 1, {2, 0, 1, 1}},
    {1, 12, 12, 8, 16, 4, 4, 2, Padding::same(1)},
    {1, 9, 8, 3, 5, 5, 5, 1, Padding::same(2)},
    {2, 9, 8, 10, 12, 5, 4, 2, {1, 2, 0, 1}},
    {1, 8, 8, 12, 9, 1, 1, 2, {}},
    {1, 5, 4, 7, 7, 1, 1, 1, {1, 0, 0, 2}},
    {1, 16, 16, 3, 24, 8, 8, 8, {}},
    {3, 1, 1, 8, 8, 3, 3, 1, Padding::same(1)},
    {1, 3, 3, 64, 8, 3, 3, 1, {}},
    {1, 6, 9, 1, 4, 3, 1, 1, {1, 0, 1, 0}},
    {1, 11, 11, 4, 6, 2, 2, 3, {0, 1, 0, 0}},
    {1, 5, 5, 300, 4, 3, 3, 1, Padding::same(1)},
};

TEST_F(Conv2dOnGpu, MatchesTheCpu) {
  unsigned seed = 1;
  for (const DType dtype : kFloats)
    for (const Case& c : kCases)
      for (const Add add : {Add::None, Add::Pixels, Add::Images}) {
        const Activation activation = seed % 2 ? Activation::None : Activation::Silu;
        check_forward(c, dtype, kFloats[seed % 3], seed % 5 != 0, add, activation, seed);
        ++seed;
      }
}

TEST_F(Conv2dOnGpu, EndsWithEveryActivation) {
  unsigned seed = 1000;
  for (const bool fuse : {false, true}) {
    cuda::set_conv2d_planning({.fuse = fuse});
    for (const DType dtype : kFloats)
      for (const DType w_dtype : kFloats)
        for (const Activation activation :
             {Activation::None, Activation::Silu, Activation::Gelu, Activation::GeluTanh,
              Activation::QuickGelu, Activation::Relu, Activation::Tanh, Activation::Sigmoid})
          for (const int64_t O : {8, 5, 7}) {
            const Case c{2, 4, 5, 6, O, 3, 3, 1, Padding::same(1)};
            check_forward(c, dtype, w_dtype, seed % 3 != 0, static_cast<Add>(seed % 4 % 3), activation, seed);
            ++seed;
          }
  }
}

TEST_F(Conv2dOnGpu, FusesEndingsThatCudnnHasReady) {
  const Case c{2, 4, 5, 8, 16, 3, 3, 1, Padding::same(1)};
  const auto fused = [&](DType w_dtype, bool bias, Add add, Activation activation) {
    const auto before = cuda::conv2d_plan_counts();
    check_forward(c, DType::F16, w_dtype, bias, add, activation, 77);
    const auto after = cuda::conv2d_plan_counts();
    EXPECT_EQ(after.runs - before.runs, 1);
    return after.fused_runs > before.fused_runs;
  };
  EXPECT_TRUE(fused(DType::F16, true, Add::None, Activation::None));
  EXPECT_TRUE(fused(DType::F16, true, Add::Pixels, Activation::None));
  EXPECT_TRUE(fused(DType::F32, true, Add::Pixels, Activation::None));
  EXPECT_FALSE(fused(DType::F16, true, Add::Images, Activation::None));
  EXPECT_FALSE(fused(DType::F16, false, Add::Pixels, Activation::None));
  EXPECT_FALSE(fused(DType::F16, true, Add::None, Activation::Silu));
  EXPECT_FALSE(fused(DType::F16, false, Add::None, Activation::None));
}

TEST_F(Conv2dOnGpu, GivesPointwiseOnesToLinear) {
  unsigned seed = 2000;
  const int64_t runs = cuda::conv2d_plan_counts().runs;
  for (const DType dtype : kFloats)
    for (const DType w_dtype : kFloats) {
      check_forward({2, 5, 6, 16, 12, 1, 1}, dtype, w_dtype, true, Add::Pixels, Activation::Silu, ++seed);
      check_forward({2, 5, 6, 7, 3, 1, 1}, dtype, w_dtype, false, Add::None, Activation::None, ++seed);
      check_forward({3, 1, 1, 8, 5, 1, 1}, dtype, w_dtype, true, Add::Images, Activation::None, ++seed);
    }
  EXPECT_EQ(cuda::conv2d_plan_counts().runs, runs);
  for (const DType dtype : kFloats)
    check_forward({2, 5, 6, 16, 12, 1, 1}, dtype, dtype, true, Add::Images, Activation::Silu, ++seed);
  EXPECT_GT(cuda::conv2d_plan_counts().runs, runs);
}

TEST_F(Conv2dOnGpu, GradientsMatchTheCpu) {
  unsigned seed = 3000;
  for (const DType dtype : kFloats)
    for (const Case& c : kCases) {
      check_backward(c, dtype, kFloats[seed % 3], seed);
      ++seed;
    }
  for (const DType dtype : kFloats) check_backward({2, 5, 6, 16, 12, 1, 1}, dtype, dtype, ++seed);
}

TEST_F(Conv2dOnGpu, EmptyTensors) {
  for (const DType dtype : kFloats) {
    Tensor w = there(random_tensor({4, 3, 3, 3}, 1), dtype), b = there(random_tensor({4}, 2), dtype);
    const Conv2dOptions options{.stride = 1, .padding = Padding::same(1)};
    Tensor none = empty({0, 5, 5, 3}, dtype), no_y = empty({0, 5, 5, 4}, dtype);
    gpu().conv2d(none, w, b, {}, options, Activation::None, no_y);
    gpu().conv2d_backward_input(no_y, w, options, none);
    Tensor dw = empty({4, 3, 3, 3}, dtype);
    gpu().conv2d_backward_weight(none, no_y, options, dw);
    expect_close(back(dw), std::vector<double>(108), 0, 0);
    // No row of x at all, but of y: of padding alone.
    Tensor flat = empty({1, 0, 5, 3}, dtype), y = empty({1, 1, 5, 4}, dtype);
    gpu().conv2d(flat, w, b, {}, {.stride = 1, .padding = {2, 1, 1, 1}}, Activation::Silu, y);
    const auto bias = doubles(back(b));
    std::vector<double> expected;
    for (int i = 0; i < 20; ++i) expected.push_back(bias[i % 4] / (1 + std::exp(-bias[i % 4])));
    expect_close(back(y), expected, 1e-6, 2 * epsilon_of(dtype) + 1e-6);
  }
}

TEST_F(Conv2dOnGpu, NaNsAndInfinitiesGoThrough) {
  const Case c{1, 6, 6, 4, 8, 3, 3, 1, Padding::same(1)};
  for (const bool fuse : {false, true}) {
    cuda::set_conv2d_planning({.fuse = fuse});
    for (const DType dtype : kFloats)
      for (const Activation activation : {Activation::None, Activation::Relu, Activation::Silu}) {
        Inputs in = inputs(c, dtype, dtype, true, Add::Pixels, 5);
        in.x.data<float>()[3] = NAN;
        in.x.data<float>()[140] = INFINITY;
        in.add.data<float>()[200] = NAN;
        in.gx = there(in.x, dtype);
        in.gadd = there(in.add, dtype);
        const Tensor got = back(run(c, in, activation, dtype));
        Tensor expected = cpu(c.y());
        cpu_kernels().conv2d(in.x, in.w, in.bias, in.add, c.options(), activation, expected);
        int special = 0;
        for (int64_t i = 0; i < got.numel(); ++i) {
          const float g = got.data<float>()[i], e = expected.data<float>()[i];
          special += !std::isfinite(e);
          ASSERT_TRUE(std::isnan(e)   ? std::isnan(g)
                      : std::isinf(e) ? g == e
                                      : std::isfinite(g))
              << i << " " << g;
        }
        EXPECT_GT(special, 20);
      }
  }
}

TEST_F(Conv2dOnGpu, LargeImagesAreDoneInParts) {
  unsigned seed = 4000;
  const std::vector<Case> cases{{5, 4, 5, 6, 8, 3, 3, 1, Padding::same(1)},
                                {1, 17, 5, 6, 8, 3, 3, 1, Padding::same(1)},
                                {1, 16, 5, 8, 4, 3, 3, 2, {0, 0, 1, 1}},
                                {3, 15, 4, 6, 8, 5, 3, 2, {2, 1, 2, 1}},
                                {1, 9, 4, 6, 8, 4, 4, 1, {3, 1, 3, 1}}};
  for (const DType dtype : kFloats)
    for (const Case& c : cases)
      for (const Add add : {Add::None, Add::Pixels, Add::Images}) {
        cuda::set_conv2d_planning({.most_elements = 150});
        const auto before = cuda::conv2d_plan_counts().runs;
        check_forward(c, dtype, dtype, true, add, seed % 2 ? Activation::None : Activation::Silu, seed);
        EXPECT_GT(cuda::conv2d_plan_counts().runs, before + 1);
        ++seed;
      }
}

TEST_F(Conv2dOnGpu, TensorsAnywhereInMemory) {
  for (const Case& c :
       {Case{1, 3, 5, 3, 5, 3, 3, 1, Padding::same(1)}, Case{2, 4, 3, 8, 8, 3, 3, 1, Padding::same(1)}})
    for (const DType dtype : kFloats)
      for (const Add add : {Add::Pixels, Add::Images}) {
        Inputs in = inputs(c, dtype, dtype, true, add, 6);
        const auto moved =
            [&](const Tensor& x) {  // to an address that is a multiple of its elements' size alone
              const int64_t n = x.numel();
              const Tensor room = empty({n + 1}, dtype);
              Tensor y = Tensor(x.shape(), dtype, room.storage(), size_of(dtype));
              gpu().convert(x, y);
              return y;
            };
        in.gx = moved(in.gx);
        in.gw = moved(in.gw);
        in.gbias = moved(in.gbias);
        in.gadd = moved(in.gadd);
        Tensor y = moved(empty(c.y(), dtype));
        gpu().conv2d(in.gx, in.gw, in.gbias, in.gadd, c.options(), Activation::None, y);
        check(c, in, Activation::None, dtype, y);
        const Tensor dy = rounded_to(random_tensor(c.y(), 9), dtype);
        Tensor dx = moved(in.gx), dw = moved(in.gw), expected_dx = cpu(in.x.shape()),
               expected_dw = cpu(in.w.shape());
        gpu().conv2d_backward_input(moved(there(dy, dtype)), in.gw, c.options(), dx);
        gpu().conv2d_backward_weight(in.gx, moved(there(dy, dtype)), c.options(), dw);
        cpu_kernels().conv2d_backward_input(dy, in.w, c.options(), expected_dx);
        cpu_kernels().conv2d_backward_weight(in.x, dy, c.options(), expected_dw);
        expect_close(back(dx), doubles(expected_dx), 1e-5, 2 * epsilon_of(dtype));
        expect_close(back(dw), doubles(expected_dw), 1e-5, 2 * epsilon_of(dtype));
      }
}

TEST_F(Conv2dOnGpu, PacksWeightsOnce) {
  const Case c{1, 4, 4, 8, 8, 3, 3, 1, Padding::same(1)};
  const Inputs in = inputs(c, DType::F16, DType::F16, false, Add::None, 7);
  EXPECT_EQ(cuda::packed_weights::bytes(), 0u);
  const Tensor first = back(run(c, in, Activation::None, DType::F16));
  EXPECT_EQ(cuda::packed_weights::bytes(), in.gw.bytes());
  EXPECT_TRUE(same_bits(back(run(c, in, Activation::None, DType::F16)), first));
  EXPECT_EQ(cuda::packed_weights::bytes(), in.gw.bytes());
  const Tensor kept = cuda::packed_weights::of(in.gw, DType::F16);
  EXPECT_EQ(kept.shape(), (Shape{8, 3, 3, 8}));
  EXPECT_EQ(kept.storage(), cuda::packed_weights::of(in.gw, DType::F16).storage());
  // Another dtype is another copy.
  EXPECT_NE(kept.storage(), cuda::packed_weights::of(in.gw, DType::F32).storage());
  EXPECT_EQ(cuda::packed_weights::bytes(), 3 * in.gw.bytes());
  cuda::packed_weights::clear();
  EXPECT_EQ(cuda::packed_weights::bytes(), 0u);
  EXPECT_TRUE(same_bits(back(run(c, in, Activation::None, DType::F16)), first));
}

TEST_F(Conv2dOnGpu, PacksForAnyNumberOfTaps) {
  for (const Shape& shape :
       {Shape{3, 70, 3, 3}, Shape{2, 3, 65, 65}, Shape{2, 5, 64, 64}, Shape{1, 300, 4, 4}})
    for (const DType from : kFloats)
      for (const DType to : kFloats) {
        const Tensor w = rounded_to(random_tensor(shape, 3), from), gw = there(w, from);
        Tensor packed = empty({shape.dim(0), shape.dim(2), shape.dim(3), shape.dim(1)}, to),
               again = empty(shape, to);
        cuda::pack_weights(gw, packed);
        cuda::unpack_weights(packed, again);
        const Tensor rounded = rounded_to(w, to);
        Tensor expected = cpu(packed.shape());
        const int axes[] = {0, 2, 3, 1};
        cpu_kernels().permute(rounded, axes, expected);
        EXPECT_TRUE(same_bits(back(packed), expected)) << to_string(shape);
        EXPECT_TRUE(same_bits(back(again), rounded)) << to_string(shape);
      }
}

TEST_F(Conv2dOnGpu, WeightsThatChangeInPlace) {
  const Case c{1, 4, 4, 8, 8, 3, 3, 1, Padding::same(1)};
  for (const bool repack : {false, true}) {
    Inputs in = inputs(c, DType::F32, DType::F32, true, Add::None, 8);
    check(c, in, Activation::None, DType::F32, run(c, in, Activation::None, DType::F32));
    const auto packed = cuda::packed_weights::of(in.gw, DType::F32).storage();
    cpu_kernels().add_scaled(rounded_to(in.w, DType::F32), 0.5f, in.w);
    allocator(device()).copy(in.gw.raw(), in.w.raw(), in.w.bytes());  // by no kernel, which would know
    // Seen through a view of a part of its bytes.
    const Tensor part = in.gw.reshape({in.gw.numel()}).slice(3, 5);
    repack ? cuda::packed_weights::repack(part) : cuda::packed_weights::forget(part);
    check(c, in, Activation::None, DType::F32, run(c, in, Activation::None, DType::F32));
    if (repack) {
      EXPECT_EQ(cuda::packed_weights::of(in.gw, DType::F32).storage(), packed);
    }
  }
  cuda::packed_weights::forget({});
}

// What optimizers, averages and checkpoints write by kernels of ours is noticed without a word.
TEST_F(Conv2dOnGpu, WeightsThatKernelsChange) {
  const Case c{1, 4, 4, 8, 8, 3, 3, 1, Padding::same(1)};
  const Tensor gradient = random_tensor({8, 8, 3, 3}, 9);
  const auto check_after = [&](const char* what, const auto& change) {
    Inputs in = inputs(c, DType::F32, DType::F32, true, Add::None, 8);
    check(c, in, Activation::None, DType::F32, run(c, in, Activation::None, DType::F32));
    const auto zeros = [](const Tensor& like) {
      Tensor y = empty_like(like);
      kernels(like.device()).fill(y, 0);
      return y;
    };
    change(cpu_kernels(), gradient, in.w, zeros);
    change(gpu(), there(gradient), in.gw, zeros);
    SCOPED_TRACE(what);
    check(c, in, Activation::None, DType::F32, run(c, in, Activation::None, DType::F32));
  };
  Tensor absent;
  const OptimizerStep step{.number = 1, .learning_rate = 0.5};
  check_after("adamw", [&](Kernels& k, const Tensor& g, Tensor& w, const auto& zeros) {
    Tensor m = zeros(w), v = zeros(w);
    k.adamw(step, {}, g, w, m, v, absent);
  });
  check_after("lion", [&](Kernels& k, const Tensor& g, Tensor& w, const auto& zeros) {
    Tensor m = zeros(w);
    k.lion(step, {}, g, w, m, absent);
  });
  check_after("adafactor", [&](Kernels& k, const Tensor& g, Tensor& w, const auto& zeros) {
    Tensor rows = zeros(w);
    k.adafactor(step, {}, g, w, rows, absent, absent, absent);
  });
  check_after("add_scaled",
              [&](Kernels& k, const Tensor& g, Tensor& w, const auto&) { k.add_scaled(g, 0.5f, w); });
  check_after("blend", [&](Kernels& k, const Tensor& g, Tensor& w, const auto&) { k.blend(g, 0.5f, w); });
  check_after("affine",
              [&](Kernels& k, const Tensor&, Tensor& w, const auto&) { k.affine(w, 0.5f, 0.1f, w); });
  check_after("convert", [&](Kernels& k, const Tensor& g, Tensor& w, const auto&) { k.convert(g, w); });
}

TEST_F(Conv2dOnGpu, WeightsThatComeWhereOthersWere) {
  const Case c{1, 4, 4, 8, 8, 3, 3, 1, Padding::same(1)};
  for (unsigned seed = 10; seed < 16; ++seed) {
    const Inputs in = inputs(c, DType::F16, DType::F16, true, Add::None, seed);
    check(c, in, Activation::None, DType::F16, run(c, in, Activation::None, DType::F16));
    EXPECT_EQ(cuda::packed_weights::bytes(), in.gw.bytes());  // those of weights that are gone are gone too
  }
  // Two views of one storage, and two shapes of one view.
  const Tensor both = there(random_tensor({16, 8, 3, 3}, 30), DType::F32);
  for (const auto& w : {both.slice(0, 8), both.slice(8, 16), both.slice(0, 8).reshape({8, 8, 1, 9})}) {
    const Tensor here = back(copy_to(w, Device{}));
    Tensor expected = cpu({8, w.dim(2), w.dim(3), 8});
    const int axes[] = {0, 2, 3, 1};
    cpu_kernels().permute(here, axes, expected);
    EXPECT_TRUE(same_bits(back(cuda::packed_weights::of(w, DType::F32)), expected));
  }
}

TEST_F(Conv2dOnGpu, StorageAtTheAddressOfAnother) {
  Tensor memory = empty({8, 8, 3, 3});
  for (int i = 1; i <= 8; ++i) {
    gpu().fill(memory, static_cast<float>(i));
    // Unlike one of make_shared, its address is free again as soon as it is gone.
    const std::shared_ptr<Storage> storage(new Storage(memory.raw(), memory.bytes(), device(), nullptr));
    const Tensor w(memory.shape(), DType::F32, storage);
    expect_close(back(cuda::packed_weights::of(w, DType::F32)), std::vector<double>(576, i), 0, 0);
  }
}

TEST_F(Conv2dOnGpu, StorageThatComesAndGoes) {
  const Case c{1, 4, 4, 8, 8, 3, 3, 1, Padding::same(1)};
  Inputs in = inputs(c, DType::F32, DType::F32, false, Add::None, 40);
  const Tensor first = copy_to(in.gw, Device{});
  Tensor now = copy_to(first, device());
  int fetched = 0;
  const auto storage = std::make_shared<Storage>(
      in.gw.bytes(), device(),
      [&]() -> void* {
        ++fetched;
        return now.raw();
      },
      nullptr);
  in.gw = Tensor(in.gw.shape(), DType::F32, storage);
  check(c, in, Activation::None, DType::F32, run(c, in, Activation::None, DType::F32));
  EXPECT_GT(fetched, 0);
  const Tensor elsewhere = copy_to(first, device());
  gpu().fill(now, 0);
  now = elsewhere;
  check(c, in, Activation::None, DType::F32, run(c, in, Activation::None, DType::F32));
}

TEST_F(Conv2dOnGpu, MeasuredPlansMatchToo) {
  cuda::set_conv2d_planning({.measure = true});
  const auto before = cuda::conv2d_plan_counts();
  const Case c{1, 6, 7, 8, 24, 3, 3, 1, Padding::same(1)};
  for (int i = 0; i < 2; ++i)
    for (const DType dtype : kFloats) {
      check_forward(c, dtype, dtype, true, Add::Pixels, Activation::None, 50);
      check_backward(c, dtype, dtype, 51);
    }
  EXPECT_GE(cuda::conv2d_plan_counts().measured - before.measured, 3);
  EXPECT_LE(cuda::conv2d_plan_counts().measured - before.measured, 9);
}

TEST_F(Conv2dOnGpu, Tf32OnlyWhereItIsAllowed) {
  const Case c{1, 5, 5, 8, 8, 3, 3, 1, Padding::same(1)};
  const Inputs in = inputs(c, DType::F32, DType::F32, false, Add::None, 60);
  cuda::set_tf32(true);
  const Tensor quick = back(run(c, in, Activation::None, DType::F32));
  cuda::set_tf32(false);
  const Tensor exact = run(c, in, Activation::None, DType::F32);
  check(c, in, Activation::None, DType::F32, exact);
  expect_close(quick, doubles(back(exact)), 5e-3, 0);
}

TEST_F(Conv2dOnGpu, ManagesWithoutWorkspaceWhenMemoryIsShort) {
  const Case c{1, 6, 6, 8, 8, 3, 3, 1, Padding::same(1)};
  const Inputs in = inputs(c, DType::F16, DType::F16, true, Add::None, 70);
  const Tensor first = back(run(c, in, Activation::None, DType::F16));
  Tensor y = empty(c.y(), DType::F16);
  Allocator& memory = allocator(device());
  memory.set_limit(memory.stats().in_use);
  gpu().conv2d(in.gx, in.gw, in.gbias, in.gadd, c.options(), Activation::None, y);
  memory.set_limit(0);
  check(c, in, Activation::None, DType::F16, y);
}

TEST_F(Conv2dOnGpu, SameBitsEachTime) {
  const Case c{2, 9, 8, 20, 16, 3, 3, 1, Padding::same(1)};
  for (const DType dtype : kFloats) {
    const Inputs in = inputs(c, dtype, dtype, true, Add::Images, 80);
    const Tensor dy = there(random_tensor(c.y(), 81), dtype);
    const auto all = [&] {
      Tensor y = run(c, in, Activation::Gelu, dtype), dx = empty(in.x.shape(), dtype),
             dw = empty(in.w.shape(), dtype);
      gpu().conv2d_backward_input(dy, in.gw, c.options(), dx);
      gpu().conv2d_backward_weight(in.gx, dy, c.options(), dw);
      return std::array{back(y), back(dx), back(dw)};
    };
    const auto first = all(), second = all();
    for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(same_bits(first[i], second[i])) << i;
  }
}

TEST_F(Conv2dOnGpu, GivesUpPackedWeightsWhenMemoryIsShort) {
  std::vector<Tensor> weights;
  for (unsigned i = 0; i < 4; ++i) {
    weights.push_back(there(random_tensor({16, 8, 3, 3}, i)));
    cuda::packed_weights::of(weights.back(), DType::F16);
  }
  const size_t each = cuda::packed_weights::bytes() / 4;
  const auto first = cuda::packed_weights::of(weights[0], DType::F16).storage();
  EXPECT_EQ(cuda::reclaim(each + 1), 2 * each);  // of weights 1 and 2, unused for longer than 0
  EXPECT_EQ(cuda::packed_weights::bytes(), 2 * each);
  EXPECT_EQ(cuda::packed_weights::of(weights[0], DType::F16).storage(), first);
  EXPECT_EQ(cuda::packed_weights::bytes(), 2 * each);
}

TEST_F(Conv2dOnGpu, CanBeRecorded) {
  const Case c{1, 6, 5, 8, 12, 3, 3, 2, {0, 0, 1, 1}};
  for (const DType dtype : kFloats)
    for (const bool packed_before : {false, true}) {
      Inputs in = inputs(c, dtype, dtype, true, Add::Images, 90);
      const Tensor dy = there(random_tensor(c.y(), 91), dtype);
      Tensor y = empty(c.y(), dtype), dx = empty(in.x.shape(), dtype), dw = empty(in.w.shape(), dtype);
      const auto work = [&] {
        gpu().conv2d(in.gx, in.gw, in.gbias, in.gadd, c.options(), Activation::Silu, y);
        gpu().conv2d_backward_input(dy, in.gw, c.options(), dx);
        gpu().conv2d_backward_weight(in.gx, dy, c.options(), dw);
      };
      work();
      const Tensor expected_dx = back(dx), expected_dw = back(dw);
      if (!packed_before) cuda::packed_weights::clear();
      cuda::set_conv2d_planning({.measure = true});  // not while recording
      const auto measured = cuda::conv2d_plan_counts().measured;
      const auto recording = record_graph(device(), work);
      ASSERT_NE(recording, nullptr);
      EXPECT_EQ(cuda::packed_weights::bytes() > 0, packed_before);
      EXPECT_EQ(cuda::conv2d_plan_counts().measured, measured);
      cuda::set_conv2d_planning({});
      // What the recording reads stays, though it is given up and its memory asked for again.
      cuda::packed_weights::clear();
      Tensor other = empty(in.w.shape(), dtype);
      gpu().fill(other, NAN);
      for (Tensor* t : {&y, &dx, &dw}) gpu().fill(*t, 0);
      recording->replay();
      check(c, in, Activation::Silu, dtype, y);
      EXPECT_TRUE(same_bits(back(dx), expected_dx));
      EXPECT_TRUE(same_bits(back(dw), expected_dw));
    }
}

TEST_F(Conv2dOnGpu, RecordingsSeeWhatIsRepacked) {
  const Case c{1, 4, 4, 8, 8, 3, 3, 1, Padding::same(1)};
  Inputs in = inputs(c, DType::F32, DType::F32, true, Add::None, 95);
  Tensor y = run(c, in, Activation::None, DType::F32);
  const auto recording = record_graph(
      device(), [&] { gpu().conv2d(in.gx, in.gw, in.gbias, {}, c.options(), Activation::None, y); });
  ASSERT_NE(recording, nullptr);
  gpu().fill(in.gw, 0.25f);
  cpu_kernels().fill(in.w, 0.25f);
  cuda::packed_weights::repack(in.gw);
  recording->replay();
  check(c, in, Activation::None, DType::F32, y);
}

}  // namespace
}  // namespace sinopia
