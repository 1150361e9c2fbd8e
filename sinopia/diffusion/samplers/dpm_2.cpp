#include "sinopia/diffusion/samplers/steps.h"

namespace sinopia {

Tensor sample_dpm_2(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context) {
  const size_t K = sigmas.size() - 1;
  for (size_t i = 0; i < K; ++i) {
    const double sigma = add_churn(x, sigmas[i], K, context), next = sigmas[i + 1];
    const Tensor x0 = denoise(x, sigma);
    Tensor d = slope(x, x0, sigma);
    if (next > 0) {
      const double middle = std::sqrt(sigma * next);
      const Tensor x_middle = x + d * (middle - sigma);
      d = slope(x_middle, denoise(x_middle, middle), middle);
    }
    x = x + d * (next - sigma);
    context.step_done(i, K, next, x, x0);
  }
  return x;
}

Tensor sample_dpm_2_ancestral(const Denoiser& denoise, Tensor x, const Sigmas& sigmas,
                              SamplerContext& context) {
  const double eta = context.eta.value_or(1);
  const size_t K = sigmas.size() - 1;
  for (size_t i = 0; i < K; ++i) {
    const double sigma = sigmas[i];
    const Tensor x0 = denoise(x, sigma);
    const auto [down, up] = ancestral_step(sigma, sigmas[i + 1], eta);
    Tensor d = slope(x, x0, sigma);
    if (down > 0) {
      const double middle = std::sqrt(sigma * down);
      const Tensor x_middle = x + d * (middle - sigma);
      d = slope(x_middle, denoise(x_middle, middle), middle);
    }
    x = x + d * (down - sigma);
    if (up > 0) x = x + context.noise(sigma, sigmas[i + 1]) * (context.s_noise * up);
    context.step_done(i, K, sigmas[i + 1], x, x0);
  }
  return x;
}

}  // namespace sinopia
