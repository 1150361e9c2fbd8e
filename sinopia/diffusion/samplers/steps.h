#pragma once

#include <algorithm>
#include <cmath>
#include <deque>

#include "sinopia/diffusion/samplers/samplers.h"
#include "sinopia/ops/elementwise.h"

namespace sinopia {

/// The slope dx/dsigma of the probability flow.
inline Tensor slope(const Tensor& x, const Tensor& x0, double sigma) { return (x - x0) / sigma; }

/// A step from one level to another by way of a lower one: down to `down`, then noise of deviation `up`.
struct AncestralStep {
  double down, up;
};
inline AncestralStep ancestral_step(double from, double to, double eta) {
  if (eta == 0 || to == 0) return {to, 0};
  const double up = std::min(to, eta * std::sqrt(to * to * (from * from - to * to) / (from * from)));
  return {std::sqrt(to * to - up * up), up};
}

/// Raises x from sigma to a somewhat noisier level and returns that, Karras et al. 2022, algorithm 2.
inline double add_churn(Tensor& x, double sigma, size_t steps, SamplerContext& context) {
  if (context.s_churn <= 0 || sigma < context.s_min || sigma > context.s_max) return sigma;
  const double gamma = std::min(context.s_churn / static_cast<double>(steps), std::sqrt(2.0) - 1);
  const double raised = sigma * (gamma + 1);
  x = x + context.noise(sigma, raised) * (context.s_noise * std::sqrt(raised * raised - sigma * sigma));
  return raised;
}

/// The newest first, at most `count`.
template <class T>
void remember(std::deque<T>& history, T value, size_t count) {
  history.push_front(std::move(value));
  if (history.size() > count) history.pop_back();
}

/// context.order, or the default. Throws InvalidArgument outside [1,highest].
inline int order_or(const SamplerContext& context, int standard, int highest) {
  const int order = context.order.value_or(standard);
  SINOPIA_CHECK(order >= 1 && order <= highest, InvalidArgument,
                "[sampler] expected an order of 1 to {}, got {}", highest, order);
  return order;
}

}  // namespace sinopia
