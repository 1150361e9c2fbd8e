#include "sinopia/diffusion/samplers/steps.h"

namespace sinopia {

Tensor sample_dpmpp_2s_ancestral(const Denoiser& denoise, Tensor x, const Sigmas& sigmas,
                                 SamplerContext& context) {
  const double eta = context.eta.value_or(1);
  const size_t K = sigmas.size() - 1;
  for (size_t i = 0; i < K; ++i) {
    const double sigma = sigmas[i];
    const Tensor x0 = denoise(x, sigma);
    const auto [down, up] = ancestral_step(sigma, sigmas[i + 1], eta);
    if (down == 0) {
      x = x0;
    } else {
      const double middle = std::sqrt(sigma * down);  // half of the step in lambda = -log sigma
      const Tensor x_middle = x * (middle / sigma) + x0 * (1 - middle / sigma);
      x = x * (down / sigma) + denoise(x_middle, middle) * (1 - down / sigma);
    }
    if (up > 0) x = x + context.noise(sigma, sigmas[i + 1]) * (context.s_noise * up);
    context.step_done(i, K, sigmas[i + 1], x, x0);
  }
  return x;
}

}  // namespace sinopia
