#include "sinopia/diffusion/samplers/steps.h"

namespace sinopia {

Tensor sample_ipndm(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context) {
  const size_t highest = static_cast<size_t>(order_or(context, 4, 4));
  const size_t K = sigmas.size() - 1;
  std::deque<Tensor> e;
  for (size_t i = 0; i < K; ++i) {
    const double sigma = sigmas[i], next = sigmas[i + 1];
    const Tensor x0 = denoise(x, sigma);
    remember(e, slope(x, x0, sigma), highest);
    Tensor d = e[0];
    if (e.size() == 2) d = e[0] * 1.5 - e[1] * 0.5;
    if (e.size() == 3) d = (e[0] * 23 - e[1] * 16 + e[2] * 5) / 12;
    if (e.size() == 4) d = (e[0] * 55 - e[1] * 59 + e[2] * 37 - e[3] * 9) / 24;
    x = next == 0 ? x0 : x + d * (next - sigma);
    context.step_done(i, K, next, x, x0);
  }
  return x;
}

}  // namespace sinopia
