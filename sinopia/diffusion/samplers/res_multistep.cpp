#include "sinopia/diffusion/samplers/steps.h"

namespace sinopia {

Tensor sample_res_multistep(const Denoiser& denoise, Tensor x, const Sigmas& sigmas,
                            SamplerContext& context) {
  const size_t K = sigmas.size() - 1;
  Tensor x0_last;
  for (size_t i = 0; i < K; ++i) {
    const double sigma = sigmas[i], next = sigmas[i + 1];
    const Tensor x0 = denoise(x, sigma);
    if (next == 0) {
      x = x0;
    } else if (i == 0) {
      x = x + slope(x, x0, sigma) * (next - sigma);
    } else {
      const double h = std::log(sigma / next);
      const double c2 = std::log(sigma / sigmas[i - 1]) / h;  // where the last estimate lies, < 0
      const double phi1 = -std::expm1(-h) / h, phi2 = (1 - phi1) / h;
      x = x * (next / sigma) + x0 * (h * (phi1 - phi2 / c2)) + x0_last * (h * phi2 / c2);
    }
    x0_last = x0;
    context.step_done(i, K, next, x, x0);
  }
  return x;
}

}  // namespace sinopia
