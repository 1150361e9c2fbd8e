#include <vector>

#include "sinopia/diffusion/samplers/steps.h"
#include "sinopia/diffusion/sigma_schedules.h"

namespace sinopia {

namespace {

struct Step {
  double from, to;
};

size_t nearest(const Sigmas& sigmas, double sigma) {
  const auto closer = [sigma](double a, double b) { return std::abs(a - sigma) < std::abs(b - sigma); };
  return static_cast<size_t>(std::min_element(sigmas.begin(), sigmas.end(), closer) - sigmas.begin());
}

std::vector<Step> plan(Sigmas sigmas) {
  const size_t K = sigmas.size() - 1;
  const size_t repeats = K >= 36 ? 2 : K >= 20 ? 1 : 0;
  const size_t repeated = K >= 36 ? K / 4 : 9;
  // The way down takes the steps that the repetitions leave.
  if (repeats > 0) {
    const bool to_zero = sigmas[K] == 0;
    const auto down = static_cast<int>(K - repeated * repeats);
    sigmas = karras_sigmas(to_zero ? down : down + 1, to_zero ? sigmas[K - 1] : sigmas[K], sigmas[0]);
    if (!to_zero) sigmas.pop_back();
  }
  const size_t bottom = nearest(sigmas, 0.1), top = nearest(sigmas, 2);
  std::vector<Step> steps;
  for (size_t i = 0; i + 1 < sigmas.size(); ++i) {
    steps.push_back({sigmas[i], sigmas[i + 1]});
    if (i + 1 != bottom || top >= bottom) continue;
    const Sigmas again = karras_sigmas(static_cast<int>(repeated) + 1, sigmas[bottom], sigmas[top]);
    for (size_t r = 0; r < repeats; ++r) {
      for (size_t k = 0; k + 2 < again.size(); ++k) steps.push_back({again[k], again[k + 1]});
    }
  }
  return steps;
}

}  // namespace

Tensor sample_restart(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context) {
  const std::vector<Step> steps = plan(sigmas);
  double level = steps.front().from;
  for (size_t i = 0; i < steps.size(); ++i) {
    const auto [sigma, next] = steps[i];
    if (level < sigma) {
      x = x + context.noise(level, sigma) * (context.s_noise * std::sqrt(sigma * sigma - level * level));
    }
    const Tensor x0 = denoise(x, sigma);
    const Tensor d = slope(x, x0, sigma);
    const Tensor euler = x + d * (next - sigma);
    x = next == 0 ? euler : x + (d + slope(euler, denoise(euler, next), next)) * (0.5 * (next - sigma));
    level = next;
    context.step_done(i, steps.size(), next, x, x0);
  }
  return x;
}

}  // namespace sinopia
