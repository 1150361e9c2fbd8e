#include "sinopia/diffusion/samplers/steps.h"

namespace sinopia {

Tensor sample_euler(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context) {
  const size_t K = sigmas.size() - 1;
  for (size_t i = 0; i < K; ++i) {
    const double sigma = add_churn(x, sigmas[i], K, context);
    const Tensor x0 = denoise(x, sigma);
    x = x + slope(x, x0, sigma) * (sigmas[i + 1] - sigma);
    context.step_done(i, K, sigmas[i + 1], x, x0);
  }
  return x;
}

}  // namespace sinopia
