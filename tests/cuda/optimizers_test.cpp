#include <cmath>
#include <functional>
#include <limits>

#include <fmt/format.h>

#include "tests/cuda/on_gpu.h"

namespace sinopia {
namespace {

using namespace testing;

constexpr OptimizerStep kStep{
    .number = 7, .learning_rate = 0.02, .weight_decay = 0.3, .gradient_scale = 0.625};
// Below, at and above whole runs and blocks.
constexpr int64_t kSizes[] = {0, 1, 3, 4, 31, 257, 1024, 4099};

Tensor squares(const Shape& shape, unsigned seed) {
  Tensor x = random_tensor(shape, seed);
  for (int64_t i = 0; i < x.numel(); ++i) x.data<float>()[i] *= x.data<float>()[i];
  return x;
}

/// The tensors of a step, the same here and there; those of each side are what its step makes of them.
struct Parameter {
  Tensor gradient;
  std::vector<Tensor> changed;  // w and the state
  Tensor stored;
};

class CudaOptimizers : public OnGpu {
 protected:
  using Step = std::function<void(Kernels&, Parameter&)>;

  /// Both sides' results agree within `ulps` roundings of each number.
  void check(const Parameter& p, const Step& step, double ulps, double absolute = 0) const {
    Parameter here{p.gradient, {}, p.stored ? Tensor::empty(p.stored.shape(), p.stored.dtype()) : Tensor()};
    Parameter gpu_side{
        there(p.gradient), {}, p.stored ? empty(p.stored.shape(), p.stored.dtype()) : Tensor()};
    for (const Tensor& x : p.changed) {
      here.changed.push_back(x ? Tensor::from(x.shape(), x.to_vector<float>()) : x);
      gpu_side.changed.push_back(there(x));
    }
    step(cpu_kernels(), here);
    step(gpu(), gpu_side);
    for (size_t i = 0; i < p.changed.size(); ++i) {
      SCOPED_TRACE(fmt::format("tensor {}", i));
      if (p.changed[i])
        expect_close(back(gpu_side.changed[i]), doubles(here.changed[i]), absolute, ulps * kEpsilon);
    }
    if (p.stored) {
      EXPECT_TRUE(same_bits(copy_to(gpu_side.stored, Device{}),
                            stored_as(back(gpu_side.changed[0]), p.stored.dtype())));
    }
  }

  static std::vector<Tensor> every_stored(const Shape& shape) {
    return {Tensor(), Tensor::empty(shape, DType::F16), Tensor::empty(shape, DType::BF16)};
  }
};

TEST_F(CudaOptimizers, AdamwIsThatOfTheCpu) {
  for (const int64_t n : kSizes) {
    for (const Tensor& stored : every_stored({n})) {
      SCOPED_TRACE(n);
      const Parameter p{
          random_tensor({n}, 1), {random_tensor({n}, 2), random_tensor({n}, 3), squares({n}, 4)}, stored};
      const AdamwConstants constants{.beta1 = 0.8, .beta2 = 0.95, .eps = 1e-3};
      check(
          p,
          [&](Kernels& k, Parameter& q) {
            k.adamw(kStep, constants, q.gradient, q.changed[0], q.changed[1], q.changed[2], q.stored);
          },
          0, 4 * kEpsilon);  // rounded twice where the CPU does not fuse
    }
  }
}

TEST_F(CudaOptimizers, LionIsThatOfTheCpu) {
  for (const int64_t n : kSizes) {
    for (const Tensor& stored : every_stored({n})) {
      SCOPED_TRACE(n);
      Parameter p{random_tensor({n}, 1), {random_tensor({n}, 2), random_tensor({n}, 3)}, stored};
      // No direction, no move.
      if (n > 2) p.gradient.data<float>()[2] = p.changed[1].data<float>()[2] = 0;
      const LionConstants constants{.beta1 = 0.8, .beta2 = 0.95};
      check(
          p,
          [&](Kernels& k, Parameter& q) {
            k.lion(kStep, constants, q.gradient, q.changed[0], q.changed[1], q.stored);
          },
          0);
    }
  }
}

TEST_F(CudaOptimizers, SumsAndBlendsAreThoseOfTheCpu) {
  for (const int64_t n : kSizes) {
    const Parameter p{random_tensor({n}, 1), {random_tensor({n}, 2)}, {}};
    check(
        p, [](Kernels& k, Parameter& q) { k.add_scaled(q.gradient, -0.7f, q.changed[0]); }, 0, 4 * kEpsilon);
    check(
        p, [](Kernels& k, Parameter& q) { k.blend(q.gradient, 0.3f, q.changed[0]); }, 0, 4 * kEpsilon);
  }
}

TEST_F(CudaOptimizers, AnyAddressWillDo) {
  const int64_t n = 1029;
  const Tensor g = random_tensor({n + 1}, 1), w = random_tensor({n + 1}, 2), m = random_tensor({n + 1}, 3),
               v = squares({n + 1}, 4);
  const auto odd = [&](const Tensor& x) { return x.slice(1, n + 1); };
  const auto copy = [](const Tensor& x) { return Tensor::from(x.shape(), x.to_vector<float>()); };
  // Each of the tensors in turn is the one that begins at an odd place.
  for (int which = 0; which < 4; ++which) {
    const auto placed = [&](const Tensor& x, int number) {
      return number == which ? odd(there(x)) : there(copy(odd(x)));
    };
    Tensor w_there = placed(w, 0), m_there = placed(m, 1), v_there = placed(v, 2), w_here = copy(odd(w)),
           m_here = copy(odd(m)), v_here = copy(odd(v)), absent;
    gpu().adamw(kStep, {}, placed(g, 3), w_there, m_there, v_there, absent);
    cpu_kernels().adamw(kStep, {}, odd(g), w_here, m_here, v_here, absent);
    expect_close(back(w_there), doubles(w_here), 4 * kEpsilon, 0);
    expect_close(back(m_there), doubles(m_here), 4 * kEpsilon, 0);
    expect_close(back(v_there), doubles(v_here), 4 * kEpsilon, 0);

    Tensor squares_there = placed(v, 2), squares_here = copy(odd(v)), of_w = placed(w, 0),
           w_again = copy(odd(w));
    gpu().adafactor(kStep, {}, placed(g, 3), of_w, squares_there, absent, absent, absent);
    cpu_kernels().adafactor(kStep, {}, odd(g), w_again, squares_here, absent, absent, absent);
    expect_close(back(of_w), doubles(w_again), 4 * kEpsilon, 0);
    expect_close(back(squares_there), doubles(squares_here), 4 * kEpsilon, 0);
  }
}

struct Factoring {
  Shape w, rows, columns;
};

TEST_F(CudaOptimizers, AdafactorIsThatOfTheCpu) {
  const Factoring factorings[] = {{{1, 1}, {1}, {1}},
                                  {{13, 7}, {13}, {7}},
                                  {{1, 300}, {1}, {300}},
                                  {{300, 1}, {300}, {1}},
                                  {{131, 259}, {131}, {259}},  // three tiles down and across
                                  {{8, 8}, {8}, {8}},
                                  {{5, 13}, {5}, {13}},
                                  {{2100, 5}, {2100}, {5}},
                                  {{300, 7, 3, 3}, {300, 7, 3}, {300, 7, 3}},  // many tiny matrices
                                  {{3, 65, 133}, {3, 65}, {3, 133}},
                                  {{5, 7, 3, 3}, {5}, {63}},
                                  {{4099}, {4099}, {}},
                                  {{1}, {1}, {}},
                                  {{0, 4}, {0}, {4}},
                                  {{0}, {0}, {}}};
  for (const Factoring& f : factorings) {
    for (const bool with_mean : {false, true}) {
      for (const double least_scale : {0.0, 0.1, 1.5}) {
        // Of gradients and squares near 1, updates are clipped at 0.5 and not at 50.
        for (const double threshold : {0.5, 50.0}) {
          SCOPED_TRACE(fmt::format("{}, mean {}, least scale {}, threshold {}", to_string(f.w), with_mean,
                                   least_scale, threshold));
          const AdafactorConstants constants{.eps = 1e-4,
                                             .clip_threshold = threshold,
                                             .decay_rate = -0.8,
                                             .beta1 = 0.75,
                                             .least_scale = least_scale};
          const bool factored = f.columns.rank() > 0;
          Parameter p{
              random_tensor(f.w, 1),
              {random_tensor(f.w, 2, 0.5), squares(f.rows, 3), factored ? squares(f.columns, 4) : Tensor(),
               with_mean ? random_tensor(f.w, 5, 0.01f) : Tensor()},
              with_mean ? Tensor::empty(f.w, least_scale > 0 ? DType::F16 : DType::BF16) : Tensor()};
          check(
              p,
              [&](Kernels& k, Parameter& q) {
                k.adafactor(kStep, constants, q.gradient, q.changed[0], q.changed[1], q.changed[2],
                            q.changed[3], q.stored);
              },
              8, kEpsilon);  // sums in double, in another order: floats differ by a rounding at each of few
                             // steps
        }
      }
    }
  }
}

TEST_F(CudaOptimizers, AdafactorIsTheSameEveryTime) {
  const Tensor g = random_tensor({90, 200}, 1);
  Tensor first;
  for (int i = 0; i < 2; ++i) {
    Tensor w = there(random_tensor({90, 200}, 2)), rows = there(squares({90}, 3)),
           columns = there(squares({200}, 4)), absent;
    gpu().adafactor(kStep, {.least_scale = 0.1}, there(g), w, rows, columns, absent, absent);
    if (i == 0) first = back(w);
    EXPECT_TRUE(same_bits(back(w), first));
  }
}

// A gradient that is not finite is seen in what it reaches, as on the CPU.
TEST_F(CudaOptimizers, NaNAndInfinityStay) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Parameter p{
        random_tensor({12, 9}, 1), {random_tensor({12, 9}, 2), squares({12, 9}, 3), squares({12, 9}, 4)}, {}};
    p.gradient.data<float>()[40] = bad;
    check(
        p,
        [](Kernels& k, Parameter& q) {
          k.adamw(kStep, {}, q.gradient, q.changed[0], q.changed[1], q.changed[2], q.stored);
        },
        4, 4 * kEpsilon);
    check(
        p,
        [](Kernels& k, Parameter& q) { k.lion(kStep, {}, q.gradient, q.changed[0], q.changed[1], q.stored); },
        4, 4 * kEpsilon);
    check(
        p, [](Kernels& k, Parameter& q) { k.blend(q.gradient, 0.3f, q.changed[0]); }, 4, 4 * kEpsilon);
    check(
        p, [](Kernels& k, Parameter& q) { k.add_scaled(q.gradient, 0.3f, q.changed[0]); }, 4, 4 * kEpsilon);
    Tensor absent;
    check(
        p,
        [&](Kernels& k, Parameter& q) {
          k.adafactor(kStep, {}, q.gradient, q.changed[0], q.changed[1], absent, q.changed[2], q.stored);
        },
        8, 4 * kEpsilon);
    p.changed[1] = squares({12}, 5), p.changed[2] = squares({9}, 6);
    check(
        p,
        [&](Kernels& k, Parameter& q) {
          k.adafactor(kStep, {}, q.gradient, q.changed[0], q.changed[1], q.changed[2], absent, q.stored);
        },
        8, 4 * kEpsilon);
  }
}

}  // namespace
}  // namespace sinopia
