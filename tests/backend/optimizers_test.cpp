#include <cmath>

#include <gtest/gtest.h>

#include "sinopia/backend/kernels.h"
#include "tests/instruction_sets.h"
#include "tests/reference.h"

namespace sinopia {
namespace {

using testing::doubles;
using testing::expect_close;
using testing::kEpsilon;
using testing::random_tensor;
using Values = std::vector<double>;

constexpr OptimizerStep kStep{
    .number = 7, .learning_rate = 0.02, .weight_decay = 0.3, .gradient_scale = 0.625};
// Below, at and above whole vectors of every width, and several pieces.
constexpr int64_t kSizes[] = {0, 1, 3, 16, 31, 257, 70001};

Tensor squares(int64_t n, unsigned seed) {
  Tensor x = random_tensor({n}, seed);
  for (int64_t i = 0; i < n; ++i) x.data<float>()[i] *= x.data<float>()[i];
  return x;
}

TEST(OptimizerKernels, AdamwIsASlowLoop) {
  testing::for_each_instruction_set([] {
    for (const int64_t n : kSizes) {
      const AdamwConstants c{.beta1 = 0.8, .beta2 = 0.95, .eps = 1e-3};
      const Tensor g = random_tensor({n}, 1);
      Tensor w = random_tensor({n}, 2), m = random_tensor({n}, 3), v = squares(n, 4),
             stored = Tensor::empty({n}, DType::BF16);
      Values gs = doubles(g), ws = doubles(w), ms = doubles(m), vs = doubles(v);
      cpu_kernels().adamw(kStep, c, g, w, m, v, stored);
      for (size_t i = 0; i < gs.size(); ++i) {
        const double scaled = 0.625 * gs[i];
        ms[i] = 0.8 * ms[i] + 0.2 * scaled;
        vs[i] = 0.95 * vs[i] + 0.05 * scaled * scaled;
        const double mean = ms[i] / (1 - std::pow(0.8, 7)), square = vs[i] / (1 - std::pow(0.95, 7));
        ws[i] -= 0.02 * (0.3 * ws[i] + mean / (std::sqrt(square) + 1e-3));
      }
      // Of numbers up to 5; the moved part of w is smaller than w's own rounding.
      expect_close(m, ms, 20 * kEpsilon, 0);
      expect_close(v, vs, 0, 6 * kEpsilon);
      expect_close(w, ws, 20 * kEpsilon, 4 * kEpsilon);
      EXPECT_TRUE(testing::same_bits(stored, testing::stored_as(w, DType::BF16)));
    }
  });
}

TEST(OptimizerKernels, LionIsASlowLoop) {
  testing::for_each_instruction_set([] {
    for (const int64_t n : kSizes) {
      const LionConstants c{.beta1 = 0.8, .beta2 = 0.95};
      Tensor g = random_tensor({n}, 1), w = random_tensor({n}, 2), m = random_tensor({n}, 3), absent;
      // No direction, no move.
      if (n > 2) g.data<float>()[2] = m.data<float>()[2] = 0;
      Values gs = doubles(g), ws = doubles(w), ms = doubles(m);
      cpu_kernels().lion(kStep, c, g, w, m, absent);
      for (size_t i = 0; i < gs.size(); ++i) {
        const double scaled = 0.625 * gs[i], direction = 0.8 * ms[i] + 0.2 * scaled;
        ASSERT_TRUE(direction == 0 || std::abs(direction) > 1e-6) << "too near to call";
        ws[i] -= 0.02 * (0.3 * ws[i] + (direction > 0) - (direction < 0));
        ms[i] = 0.95 * ms[i] + 0.05 * scaled;
      }
      expect_close(m, ms, 20 * kEpsilon, 0);
      expect_close(w, ws, 4 * kEpsilon, 4 * kEpsilon);
    }
  });
}

struct Factoring {
  Shape w, rows, columns;
  int64_t matrices, R, C;
};

// Shazeer and Stern 2018, algorithms 4 and 5, in double.
TEST(OptimizerKernels, AdafactorIsASlowLoop) {
  const Factoring factorings[] = {{{1, 1}, {1}, {1}, 1, 1, 1},
                                  {{13, 7}, {13}, {7}, 1, 13, 7},
                                  {{1, 300}, {1}, {300}, 1, 1, 300},
                                  {{300, 1}, {300}, {1}, 1, 300, 1},
                                  {{211, 1009}, {211}, {1009}, 1, 211, 1009},  // several strips of rows
                                  {{5, 7, 3, 3}, {5, 7, 3}, {5, 7, 3}, 35, 3, 3},
                                  {{3, 61, 1021}, {3, 61}, {3, 1021}, 3, 61, 1021},
                                  {{5, 7, 3, 3}, {5}, {63}, 1, 5, 63},
                                  {{40001}, {40001}, {}, 0, 0, 0}};
  for (const Factoring& f : factorings) {
    for (const bool with_mean : {false, true}) {
      SCOPED_TRACE(to_string(f.w));
      const AdafactorConstants c{
          .eps = 1e-4, .clip_threshold = 0.5, .decay_rate = -0.8, .beta1 = 0.75, .least_scale = 0.1};
      const Tensor g = random_tensor(f.w, 1);
      Tensor w = random_tensor(f.w, 2, 0.5), rows = squares(f.rows.numel(), 3).reshape(f.rows),
             columns = f.matrices ? squares(f.columns.numel(), 4).reshape(f.columns) : Tensor(),
             m = with_mean ? random_tensor(f.w, 5, 0.01f) : Tensor(), absent;
      // Not near 0, where a root's inverse would be as large as it likes.
      for (Tensor* x : {&rows, &columns})
        for (int64_t i = 0; *x && i < x->numel(); ++i) x->data<float>()[i] += 0.5f;
      Values gs = doubles(g), ws = doubles(w), rs = doubles(rows),
             cs = f.matrices ? doubles(columns) : Values(), ms = with_mean ? doubles(m) : Values(gs.size());
      cpu_kernels().adafactor(kStep, c, g, w, rows, columns, m, absent);

      const double beta2 = 1 - std::pow(7, -0.8);
      Values update(gs.size());
      for (double& v : gs) v *= 0.625;
      const auto square = [&](size_t i) { return gs[i] * gs[i] + 1e-4; };
      const auto R = static_cast<size_t>(f.R), C = static_cast<size_t>(f.C);
      if (!f.matrices) {
        for (size_t i = 0; i < gs.size(); ++i) {
          rs[i] = beta2 * rs[i] + (1 - beta2) * square(i);
          update[i] = gs[i] / std::sqrt(rs[i]);
        }
      }
      for (size_t k = 0; k < static_cast<size_t>(f.matrices); ++k) {
        double mean_row = 0;
        for (size_t r = 0; r < R; ++r) {
          double sum = 0;
          for (size_t j = 0; j < C; ++j) sum += square((k * R + r) * C + j);
          rs[k * R + r] = beta2 * rs[k * R + r] + (1 - beta2) * sum / static_cast<double>(C);
          mean_row += rs[k * R + r] / static_cast<double>(R);
        }
        for (size_t j = 0; j < C; ++j) {
          double sum = 0;
          for (size_t r = 0; r < R; ++r) sum += square((k * R + r) * C + j);
          cs[k * C + j] = beta2 * cs[k * C + j] + (1 - beta2) * sum / static_cast<double>(R);
        }
        for (size_t i = 0; i < R * C; ++i)
          update[k * R * C + i] =
              gs[k * R * C + i] / std::sqrt(rs[k * R + i / C] * cs[k * C + i % C] / mean_row);
      }
      double power = 0, weight = 0;
      for (size_t i = 0; i < gs.size(); ++i) {
        power += update[i] * update[i];
        weight += ws[i] * ws[i];
      }
      const auto n = static_cast<double>(gs.size());
      const double rate = 0.02 * std::max(0.1, std::sqrt(weight / n));
      const double limit = std::max(1.0, std::sqrt(power / n) / 0.5);
      for (size_t i = 0; i < gs.size(); ++i) {
        const double move = rate * update[i] / limit;
        ms[i] = with_mean ? 0.75 * ms[i] + 0.25 * move : move;
        ws[i] = ws[i] * (1 - 0.3 * rate) - ms[i];
      }
      expect_close(rows, rs, 0, 10 * kEpsilon);
      if (columns) expect_close(columns, cs, 0, 10 * kEpsilon);
      if (m) expect_close(m, ms, 2 * kEpsilon, 20 * kEpsilon);
      expect_close(w, ws, 4 * kEpsilon, 4 * kEpsilon);
    }
  }
}

TEST(OptimizerKernels, SumsAndBlendsAreSlowLoops) {
  testing::for_each_instruction_set([] {
    for (const int64_t n : kSizes) {
      const Tensor x = random_tensor({n}, 1);
      Tensor y = random_tensor({n}, 2), z = random_tensor({n}, 3);
      const Values xs = doubles(x);
      Values ys = doubles(y), zs = doubles(z);
      cpu_kernels().add_scaled(x, -0.7f, y);
      cpu_kernels().blend(x, 0.3f, z);
      double power = 0;
      for (size_t i = 0; i < xs.size(); ++i) {
        ys[i] += static_cast<double>(-0.7f) * xs[i];
        zs[i] += static_cast<double>(0.3f) * (xs[i] - zs[i]);
        power += xs[i] * xs[i];
      }
      expect_close(y, ys, 10 * kEpsilon, kEpsilon);
      expect_close(z, zs, 10 * kEpsilon, kEpsilon);
      EXPECT_NEAR(cpu_kernels().sum_of_squares(x), power, 1e-12 * power);
    }
  });
}

}  // namespace
}  // namespace sinopia
