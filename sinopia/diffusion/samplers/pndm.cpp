#include "sinopia/diffusion/samplers/steps.h"

namespace sinopia {

Tensor sample_pndm(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context) {
  const size_t K = sigmas.size() - 1;
  std::deque<Tensor> e;
  for (size_t i = 0; i < K; ++i) {
    const double sigma = sigmas[i], next = sigmas[i + 1];
    const Tensor x0 = denoise(x, sigma);
    remember(e, slope(x, x0, sigma), 4);
    Tensor d = e[0];
    if (e.size() == 1 && K > 1) {
      // The first step is done twice, the second time with the mean of the slopes at its ends.
      const Tensor euler = x + d * (next - sigma);
      d = (d + slope(euler, denoise(euler, next), next)) * 0.5;
    } else if (e.size() == 2) {
      d = e[0] * 1.5 - e[1] * 0.5;
    } else if (e.size() == 3) {
      d = (e[0] * 23 - e[1] * 16 + e[2] * 5) / 12;
    } else if (e.size() == 4) {
      d = (e[0] * 55 - e[1] * 59 + e[2] * 37 - e[3] * 9) / 24;
    }
    x = x + d * (next - sigma);
    context.step_done(i, K, next, x, x0);
  }
  return x;
}

}  // namespace sinopia
