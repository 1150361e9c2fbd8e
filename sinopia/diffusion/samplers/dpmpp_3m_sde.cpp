#include "sinopia/diffusion/samplers/steps.h"

namespace sinopia {

Tensor sample_dpmpp_3m_sde(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context) {
  const double eta = context.eta.value_or(1);
  const size_t K = sigmas.size() - 1;
  std::deque<Tensor> x0s;
  for (size_t i = 0; i < K; ++i) {
    const double sigma = sigmas[i], next = sigmas[i + 1];
    const Tensor x0 = denoise(x, sigma);
    remember(x0s, x0, 3);
    if (next == 0) {
      x = x0;
    } else {
      const double h = std::log(sigma / next), c = h * (1 + eta);
      x = x * std::exp(-c) + x0 * -std::expm1(-c);
      const double phi2 = std::expm1(-c) / c + 1, phi3 = phi2 / c - 0.5;
      if (i >= 2) {
        const double r0 = std::log(sigmas[i - 1] / sigma) / h;
        const double r1 = std::log(sigmas[i - 2] / sigmas[i - 1]) / h;
        const Tensor d1_0 = (x0 - x0s[1]) / r0, d1_1 = (x0s[1] - x0s[2]) / r1;
        const Tensor d2 = (d1_0 - d1_1) / (r0 + r1);
        x = x + (d1_0 + d2 * r0) * phi2 - d2 * phi3;
      } else if (i == 1) {
        x = x + (x0 - x0s[1]) * (phi2 * h / std::log(sigmas[0] / sigma));
      }
      if (eta > 0) {
        x = x + context.noise(sigma, next) * (next * std::sqrt(-std::expm1(-2 * eta * h)) * context.s_noise);
      }
    }
    context.step_done(i, K, next, x, x0);
  }
  return x;
}

}  // namespace sinopia
