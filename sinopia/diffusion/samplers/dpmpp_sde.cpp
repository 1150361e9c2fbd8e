#include "sinopia/diffusion/samplers/steps.h"

namespace sinopia {

Tensor sample_dpmpp_sde(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context) {
  const double eta = context.eta.value_or(1);
  const size_t K = sigmas.size() - 1;
  // A first-order step from `sigma` to `to` with x0 held at D.
  const auto step = [&](const Tensor& D, double sigma, double to) {
    const auto [down, up] = ancestral_step(sigma, to, eta);
    const Tensor y = x * (down / sigma) + D * (1 - down / sigma);
    return up > 0 ? y + context.noise(sigma, to) * (context.s_noise * up) : y;
  };
  for (size_t i = 0; i < K; ++i) {
    const double sigma = sigmas[i], next = sigmas[i + 1];
    const Tensor x0 = denoise(x, sigma);
    if (next == 0) {
      x = x0;
    } else {
      const double middle =
          std::sqrt(sigma * next);  // r = 1/2, whence x0 at the middle stands for the whole step
      x = step(denoise(step(x0, sigma, middle), middle), sigma, next);
    }
    context.step_done(i, K, next, x, x0);
  }
  return x;
}

}  // namespace sinopia
