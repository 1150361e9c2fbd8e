#include "sinopia/diffusion/samplers/steps.h"

namespace sinopia {

Tensor sample_tcd(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context) {
  const double gamma = context.eta.value_or(0.3);
  SINOPIA_CHECK(gamma >= 0 && gamma <= 1, InvalidArgument, "[tcd] expected a gamma (eta) in [0,1], got {}",
                gamma);
  SINOPIA_CHECK(context.schedule != nullptr, InvalidArgument, "[tcd] expected a schedule");
  const size_t K = sigmas.size() - 1;
  for (size_t i = 0; i < K; ++i) {
    const double sigma = sigmas[i], next = sigmas[i + 1];
    const Tensor x0 = denoise(x, sigma);
    // To the timestep s = (1-gamma) t', then noise back up to t'; none in the last step.
    const bool last = i + 1 == K;
    const double t_next = context.schedule->timestep(next);
    const double down =
        last ? next : std::min(next, context.schedule->sigma(std::floor((1 - gamma) * t_next)));
    x = x + slope(x, x0, sigma) * (down - sigma);
    if (down < next) {
      x = x + context.noise(sigma, next) * (std::sqrt(next * next - down * down) * context.s_noise);
    }
    context.step_done(i, K, next, x, x0);
  }
  return x;
}

}  // namespace sinopia
