#include "sinopia/diffusion/samplers/steps.h"

namespace sinopia {

namespace {

double noise_scale(double sigma) { return sigma * (std::exp(std::pow(sigma, 0.3)) + 10); }

// Integrals from `to` up to `from` of 1/noise_scale and of (u-from)/noise_scale, as sums over 200 points.
struct Integrals {
  double zeroth = 0, first = 0;
};
Integrals integrate(double from, double to) {
  constexpr int kPoints = 200;
  const double width = (from - to) / kPoints;
  Integrals result;
  for (int k = 0; k < kPoints; ++k) {
    const double u = to + k * width;
    result.zeroth += width / noise_scale(u);
    result.first += width * (u - from) / noise_scale(u);
  }
  return result;
}

}  // namespace

Tensor sample_er_sde(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context) {
  const int highest = order_or(context, 3, 3);
  const size_t K = sigmas.size() - 1;
  Tensor x0_last, d_last;
  for (size_t i = 0; i < K; ++i) {
    const double sigma = sigmas[i], next = sigmas[i + 1];
    const Tensor x0 = denoise(x, sigma);
    if (next == 0) {
      x = x0;
    } else {
      const double r = noise_scale(next) / noise_scale(sigma), dt = next - sigma;
      x = x * r + x0 * (1 - r);
      if (i >= 1 && highest >= 2) {
        const Integrals s = integrate(sigma, next);
        const Tensor d = (x0 - x0_last) / (sigma - sigmas[i - 1]);
        x = x + d * (dt + s.zeroth * noise_scale(next));
        if (i >= 2 && highest >= 3) {
          const Tensor u = (d - d_last) / ((sigma - sigmas[i - 2]) / 2);
          x = x + u * (dt * dt / 2 + s.first * noise_scale(next));
        }
        d_last = d;
      }
      const double variance = next * next - sigma * sigma * r * r;
      if (context.s_noise > 0 && variance > 0) {
        x = x + context.noise(sigma, next) * (context.s_noise * std::sqrt(variance));
      }
    }
    x0_last = x0;
    context.step_done(i, K, next, x, x0);
  }
  return x;
}

}  // namespace sinopia
