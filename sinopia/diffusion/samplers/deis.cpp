#include "sinopia/diffusion/samplers/steps.h"

namespace sinopia {

namespace {

// Integral from s[0] to t of the polynomial in log rho that is 1 at s[j] and 0 at the other nodes.
double coefficient(double t, const std::deque<double>& s, size_t j) {
  // The antiderivatives of (log u - a) and (log u - a)(log u - b) are u (l - 1 - a) and u (l^2 - (2 + a +
  // b)(l - 1) + ab).
  const auto primitive = [&](double u) {
    const double l = std::log(u);
    if (s.size() == 2) return u * (l - 1 - std::log(s[1 - j]));
    const double a = std::log(s[(j + 1) % 3]), b = std::log(s[(j + 2) % 3]);
    return u * (l * l - (2 + a + b) * (l - 1) + a * b);
  };
  double denominator = 1;
  for (size_t k = 0; k < s.size(); ++k) {
    if (k != j) denominator *= std::log(s[j] / s[k]);
  }
  return (primitive(t) - primitive(s[0])) / denominator;
}

}  // namespace

Tensor sample_deis(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context) {
  const size_t highest = static_cast<size_t>(order_or(context, 2, 3));
  const size_t K = sigmas.size() - 1;
  std::deque<Tensor> e;
  std::deque<double> levels;
  for (size_t i = 0; i < K; ++i) {
    const double sigma = sigmas[i], next = sigmas[i + 1];
    const Tensor x0 = denoise(x, sigma);
    // The last steps of a short run are of lower order, as in diffusers.
    const size_t order = next == 0 || K < 15 ? std::min(highest, next == 0 ? 1 : K - i) : highest;
    remember(e, slope(x, x0, sigma), highest);
    remember(levels, sigma, highest);
    const std::deque<double> nodes(levels.begin(),
                                   levels.begin() + static_cast<ptrdiff_t>(std::min(order, levels.size())));
    if (nodes.size() == 1) {
      x = x + e[0] * (next - sigma);
    } else {
      for (size_t j = 0; j < nodes.size(); ++j) x = x + e[j] * coefficient(next, nodes, j);
    }
    context.step_done(i, K, next, x, x0);
  }
  return x;
}

}  // namespace sinopia
