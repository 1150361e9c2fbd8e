#include <cmath>

#include <fmt/format.h>

#include "bench/bench.h"

namespace sinopia::bench {
namespace {

// Reads gradient, parameter and both means, writes the last three.
void add_adamw(std::vector<Case>& cases, int64_t n) {
  cases.push_back({"optimizer", fmt::format("adamw [{}]", n), 0, 28.0 * static_cast<double>(n), [=] {
                     constexpr AdamwConstants kConstants;
                     constexpr double kRate = 1e-4, kDecay = 0.01;
                     const Tensor g = random_tensor({n}), start = random_tensor({n});
                     Tensor w = Tensor::empty({n}), m = empty_like(w), v = empty_like(w), absent;
                     cpu_kernels().convert(start, w);
                     cpu_kernels().fill(m, 0);
                     cpu_kernels().fill(v, 0);
                     const auto run = [=, number = int64_t{0}]() mutable {
                       const OptimizerStep step{
                           .number = ++number, .learning_rate = kRate, .weight_decay = kDecay};
                       cpu_kernels().adamw(step, kConstants, g, w, m, v, absent);
                     };
                     Prepared p;
                     p.contenders.push_back({"ours", run, w});
                     // What is verified is the first step: with means of zero it moves by the rate.
                     p.reference = [=](int64_t i) {
                       const double gradient = element(g, i), old = element(start, i);
                       const double value = old * (1 - kRate * kDecay) -
                                            kRate * gradient / (std::abs(gradient) + kConstants.eps);
                       return Prepared::Value{value, 1 + std::abs(value)};
                     };
                     return p;
                   }});
}

}  // namespace

void add_optimizers(std::vector<Case>& cases) {
  add_adamw(cases, int64_t{1280} * 1280);
  add_adamw(cases, int64_t{1} << 24);
}

}  // namespace sinopia::bench
