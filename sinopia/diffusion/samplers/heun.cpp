#include "sinopia/diffusion/samplers/steps.h"

namespace sinopia {

Tensor sample_heun(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context) {
  const size_t K = sigmas.size() - 1;
  for (size_t i = 0; i < K; ++i) {
    const double sigma = add_churn(x, sigmas[i], K, context), next = sigmas[i + 1];
    const Tensor x0 = denoise(x, sigma);
    const Tensor d = slope(x, x0, sigma);
    const Tensor euler = x + d * (next - sigma);
    x = next == 0 ? euler : x + (d + slope(euler, denoise(euler, next), next)) * (0.5 * (next - sigma));
    context.step_done(i, K, next, x, x0);
  }
  return x;
}

}  // namespace sinopia
