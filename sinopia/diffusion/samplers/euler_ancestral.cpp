#include "sinopia/diffusion/samplers/steps.h"

namespace sinopia {

Tensor sample_euler_ancestral(const Denoiser& denoise, Tensor x, const Sigmas& sigmas,
                              SamplerContext& context) {
  const double eta = context.eta.value_or(1);
  const size_t K = sigmas.size() - 1;
  for (size_t i = 0; i < K; ++i) {
    const Tensor x0 = denoise(x, sigmas[i]);
    const auto [down, up] = ancestral_step(sigmas[i], sigmas[i + 1], eta);
    x = x + slope(x, x0, sigmas[i]) * (down - sigmas[i]);
    if (up > 0) x = x + context.noise(sigmas[i], sigmas[i + 1]) * (context.s_noise * up);
    context.step_done(i, K, sigmas[i + 1], x, x0);
  }
  return x;
}

}  // namespace sinopia
