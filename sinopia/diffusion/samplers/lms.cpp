#include "sinopia/diffusion/samplers/steps.h"

namespace sinopia {

namespace {

// The integral over the next step of the Lagrange polynomial that is 1 at sigmas[i-j] and 0 at the other
// levels of the last `order`. Two Gauss points are exact for its degree of at most 3.
double coefficient(const Sigmas& sigmas, size_t i, size_t j, size_t order) {
  const double center = (sigmas[i] + sigmas[i + 1]) / 2, half = (sigmas[i + 1] - sigmas[i]) / 2;
  double sum = 0;
  for (const double point : {-1 / std::sqrt(3.0), 1 / std::sqrt(3.0)}) {
    double product = half;
    for (size_t k = 0; k < order; ++k) {
      if (k == j) continue;
      product *= (center + half * point - sigmas[i - k]) / (sigmas[i - j] - sigmas[i - k]);
    }
    sum += product;
  }
  return sum;
}

}  // namespace

Tensor sample_lms(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context) {
  const size_t highest = static_cast<size_t>(order_or(context, 4, 4));
  const size_t K = sigmas.size() - 1;
  std::deque<Tensor> d;
  for (size_t i = 0; i < K; ++i) {
    const Tensor x0 = denoise(x, sigmas[i]);
    remember(d, slope(x, x0, sigmas[i]), highest);
    for (size_t j = 0; j < d.size(); ++j) x = x + d[j] * coefficient(sigmas, i, j, d.size());
    context.step_done(i, K, sigmas[i + 1], x, x0);
  }
  return x;
}

}  // namespace sinopia
