#include "sinopia/diffusion/samplers/steps.h"

namespace sinopia {

namespace {

Tensor sample(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context, bool heun) {
  const double eta = context.eta.value_or(1);
  const size_t K = sigmas.size() - 1;
  Tensor x0_last;
  for (size_t i = 0; i < K; ++i) {
    const double sigma = sigmas[i], next = sigmas[i + 1];
    const Tensor x0 = denoise(x, sigma);
    if (next == 0) {
      x = x0;
    } else {
      const double h = std::log(sigma / next), c = h * (1 + eta);
      const double phi = -std::expm1(-c);
      x = x * (next / sigma * std::exp(-eta * h)) + x0 * phi;
      if (i > 0) {
        const double r = std::log(sigmas[i - 1] / sigma) / h;
        x = x + (x0 - x0_last) * ((heun ? 1 - phi / c : phi / 2) / r);
      }
      if (eta > 0) {
        x = x + context.noise(sigma, next) * (next * std::sqrt(-std::expm1(-2 * eta * h)) * context.s_noise);
      }
    }
    x0_last = x0;
    context.step_done(i, K, next, x, x0);
  }
  return x;
}

}  // namespace

Tensor sample_dpmpp_2m_sde(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context) {
  return sample(denoise, std::move(x), sigmas, context, false);
}

Tensor sample_dpmpp_2m_sde_heun(const Denoiser& denoise, Tensor x, const Sigmas& sigmas,
                                SamplerContext& context) {
  return sample(denoise, std::move(x), sigmas, context, true);
}

}  // namespace sinopia
