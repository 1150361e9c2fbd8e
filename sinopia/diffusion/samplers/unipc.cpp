#include <vector>

#include "sinopia/diffusion/samplers/steps.h"

namespace sinopia {

namespace {

// Known estimates of x0 and their levels, the newest first.
struct Known {
  std::deque<Tensor> x0;
  std::deque<double> sigma;
};

// a[p][p] w = b by elimination; p <= 3, and the nodes are distinct.
std::vector<double> solve(std::vector<std::vector<double>> a, std::vector<double> b) {
  const size_t p = b.size();
  for (size_t k = 0; k < p; ++k) {
    size_t pivot = k;
    for (size_t i = k + 1; i < p; ++i) pivot = std::abs(a[i][k]) > std::abs(a[pivot][k]) ? i : pivot;
    std::swap(a[k], a[pivot]);
    std::swap(b[k], b[pivot]);
    for (size_t i = k + 1; i < p; ++i) {
      const double f = a[i][k] / a[k][k];
      for (size_t j = k; j < p; ++j) a[i][j] -= f * a[k][j];
      b[i] -= f * b[k];
    }
  }
  for (size_t k = p; k-- > 0;) {
    for (size_t j = k + 1; j < p; ++j) b[k] -= a[k][j] * b[j];
    b[k] /= a[k][k];
  }
  return b;
}

// Equation 3 or 9 of the paper from x at known.sigma[0] to `next`: the predictor of this order, or the
// corrector when the estimate at `next` is given.
Tensor step(const Tensor& x, const Known& known, double next, size_t order, bool bh2, const Tensor& x0_next) {
  const double sigma = known.sigma[0];
  Tensor y = x * (next / sigma) + known.x0[0] * (1 - next / sigma);
  const size_t terms = x0_next ? order : order - 1;
  if (terms == 0) return y;
  const double h = -std::log(sigma / next);
  const double B = bh2 ? std::expm1(h) : h;
  std::vector<double> r;
  for (size_t m = 1; m < order; ++m) r.push_back(std::log(known.sigma[m] / sigma) / h);
  if (x0_next) r.push_back(1);
  std::vector<std::vector<double>> R;
  std::vector<double> b;
  double phi = std::expm1(h) / h - 1, factorial = 1;
  for (size_t k = 1; k <= terms; ++k) {
    std::vector<double> row;
    for (const double node : r) row.push_back(std::pow(node, static_cast<double>(k - 1)));
    R.push_back(row);
    b.push_back(phi * factorial / B);
    factorial *= static_cast<double>(k + 1);
    phi = phi / h - 1 / factorial;
  }
  // One term is given the limit of its weight, as the paper does.
  const std::vector<double> rho = terms == 1 ? std::vector<double>{0.5} : solve(R, b);
  for (size_t m = 1; m < order; ++m) y = y - (known.x0[m] - known.x0[0]) * (B * rho[m - 1] / r[m - 1]);
  if (x0_next) y = y - (x0_next - known.x0[0]) * (B * rho.back());
  return y;
}

Tensor sample(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context, bool bh2) {
  const size_t highest = static_cast<size_t>(order_or(context, 2, 3));
  const size_t K = sigmas.size() - 1;
  Known known;
  Tensor x_last;
  size_t order = 1;
  for (size_t i = 0; i < K; ++i) {
    const Tensor x0 = denoise(x, sigmas[i]);
    if (i > 0) x = step(x_last, known, sigmas[i], order, bh2, x0);
    remember(known.x0, x0, highest);
    remember(known.sigma, sigmas[i], highest);
    order = std::min({highest, i + 1, K - i});
    if (sigmas[i + 1] == 0) order = 1;
    x_last = x;
    x = step(x, known, sigmas[i + 1], order, bh2, {});
    context.step_done(i, K, sigmas[i + 1], x, x0);
  }
  return x;
}

}  // namespace

Tensor sample_unipc(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context) {
  return sample(denoise, std::move(x), sigmas, context, true);
}

Tensor sample_unipc_bh1(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context) {
  return sample(denoise, std::move(x), sigmas, context, false);
}

}  // namespace sinopia
