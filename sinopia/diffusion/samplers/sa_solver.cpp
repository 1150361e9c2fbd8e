#include <span>
#include <vector>

#include "sinopia/diffusion/samplers/steps.h"

namespace sinopia {

namespace {

// A step of the stochastic exponential integrator from x at sigma to `next`, with the estimates of x0 at one
// or two levels, the second-order one with the reference's terms of third order for few steps.
struct Estimate {
  Tensor x0;
  double sigma;
};
Tensor step(const Tensor& x, double sigma, double next, double tau, std::span<const Estimate> known,
            bool corrector) {
  const double h = std::log(sigma / next), c = 1 + tau * tau;
  const Tensor y = x * (next / sigma * std::exp(-tau * tau * h));
  // Integrals over u = lambda - lambda(next) in [-h,0] of c exp(c u) and c u exp(c u).
  const double I0 = -std::expm1(-c * h), I1 = h * std::exp(-c * h) - I0 / c;
  if (known.size() == 1) return y + known[0].x0 * I0;
  const double u0 = std::log(next / known[0].sigma), u1 = std::log(next / known[1].sigma);
  const double remainder = (h * c + std::expm1(-c * h)) / (c * c);
  const double extra = corrector ? h / 2 - remainder / h : (h * h / 2 - remainder) / (u0 - u1);
  const double w0 = (I1 - u1 * I0) / (u0 - u1) + c * extra;
  return y + known[0].x0 * w0 + known[1].x0 * (I0 - w0);
}

}  // namespace

Tensor sample_sa_solver(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context) {
  const double eta = context.eta.value_or(1);
  SINOPIA_CHECK(context.schedule != nullptr, InvalidArgument, "[sa_solver] expected a schedule");
  const size_t K = sigmas.size() - 1;
  const double unit = context.schedule->train_steps() / 1000.0;
  std::vector<Estimate> known;
  Tensor x_last, noise_last;
  double tau = 0;
  for (size_t i = 0; i < K; ++i) {
    const double sigma = sigmas[i], next = sigmas[i + 1];
    const Tensor x0 = denoise(x, sigma);
    known.insert(known.begin(), {x0, sigma});
    if (i > 0) {
      x = step(x_last, sigmas[i - 1], sigma, tau, std::span(known).first(2), true);
      if (noise_last) x = x + noise_last;
    }
    const double t = context.schedule->timestep(sigma);
    tau = t >= 200 * unit && t <= 800 * unit ? eta : 0;
    x_last = x;
    if (next == 0) {
      x = x0;
    } else {
      const size_t order = std::min<size_t>({2, i + 1, K - i});
      x = step(x, sigma, next, tau, std::span(known).first(order), false);
      // Drawn at every step, used or not, as the reference does.
      const double deviation = next * std::sqrt(-std::expm1(-2 * tau * tau * std::log(sigma / next)));
      if (eta > 0) noise_last = context.noise(sigma, next) * (deviation * context.s_noise);
      if (noise_last) x = x + noise_last;
    }
    known.resize(1);
    context.step_done(i, K, next, x, x0);
  }
  return x;
}

}  // namespace sinopia
