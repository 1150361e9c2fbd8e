#include "sinopia/diffusion/samplers/steps.h"

namespace sinopia {

Tensor sample_dpmpp_2m(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context) {
  const size_t K = sigmas.size() - 1;
  Tensor x0_last;
  for (size_t i = 0; i < K; ++i) {
    const double sigma = sigmas[i], next = sigmas[i + 1];
    const Tensor x0 = denoise(x, sigma);
    Tensor D = x0;
    if (i > 0 && next > 0) {
      const double r = std::log(sigmas[i - 1] / sigma) / std::log(sigma / next);
      D = x0 * (1 + 1 / (2 * r)) - x0_last * (1 / (2 * r));
    }
    x = x * (next / sigma) + D * (1 - next / sigma);
    x0_last = x0;
    context.step_done(i, K, next, x, x0);
  }
  return x;
}

}  // namespace sinopia
