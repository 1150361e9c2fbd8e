#include "sinopia/diffusion/samplers/steps.h"

namespace sinopia {

// With x / sqrt(abar) as the latent, equation 12 of Song et al. is an ancestral Euler step: its deviation
// eta sqrt((1-abar')/(1-abar) (1-abar/abar')) is sqrt(abar') times that of ancestral_step().
Tensor sample_ddim(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context) {
  SamplerContext deterministic = context;
  deterministic.eta = context.eta.value_or(0);
  return sample_euler_ancestral(denoise, std::move(x), sigmas, deterministic);
}

// The mean and variance of q(x_{t-1} | x_t, x0) are those of DDIM at eta 1.
Tensor sample_ddpm(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context) {
  return sample_euler_ancestral(denoise, std::move(x), sigmas, context);
}

}  // namespace sinopia
