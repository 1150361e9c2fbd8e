#include "sinopia/diffusion/samplers/steps.h"

namespace sinopia {

Tensor sample_lcm(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context) {
  const size_t K = sigmas.size() - 1;
  for (size_t i = 0; i < K; ++i) {
    const Tensor x0 = denoise(x, sigmas[i]);
    x = x0;
    if (sigmas[i + 1] > 0)
      x = x0 + context.noise(sigmas[i], sigmas[i + 1]) * (sigmas[i + 1] * context.s_noise);
    context.step_done(i, K, sigmas[i + 1], x, x0);
  }
  return x;
}

}  // namespace sinopia
