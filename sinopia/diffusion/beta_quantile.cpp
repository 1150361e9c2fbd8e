#include "sinopia/diffusion/beta_quantile.h"

#include <cmath>

#include "sinopia/base/error.h"

namespace sinopia {
namespace {

// The continued fraction of the incomplete beta function (DLMF 8.17.22) by Lentz's method; fast for
// x < (a+1)/(a+b+2).
double continued_fraction(double x, double a, double b) {
  constexpr double kTiny = 1e-300;
  double c = 1, d = 1 / (1 - (a + b) * x / (a + 1)), h = d;
  for (int m = 1; m < 500; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    for (const double term : {even, odd}) {
      d = 1 + term * d;
      c = 1 + term / c;
      if (std::abs(d) < kTiny) d = kTiny;
      if (std::abs(c) < kTiny) c = kTiny;
      d = 1 / d;
      h *= c * d;
    }
    if (std::abs(c * d - 1) < 1e-16) break;
  }
  return h;
}

double incomplete_beta(double x, double a, double b) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const double front =
      std::exp(a * std::log(x) + b * std::log1p(-x) + std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b));
  if (x < (a + 1) / (a + b + 2)) return front * continued_fraction(x, a, b) / a;
  return 1 - front * continued_fraction(1 - x, b, a) / b;
}

}  // namespace

double beta_quantile(double p, double a, double b) {
  SINOPIA_CHECK(p >= 0 && p <= 1 && a > 0 && a <= 100 && b > 0 && b <= 100, InvalidArgument,
                "[beta_quantile] expected p in [0,1] and a, b in (0,100], got {}, {}, {}", p, a, b);
  if (p == 0 || p == 1) return p;
  if (p == 0.5 && a == b) return 0.5;  // exactly, since schedules round it
  double low = 0, high = 1;
  while (high - low > 1e-16 * high) {
    const double middle = (low + high) / 2;
    if (middle == low || middle == high) break;
    (incomplete_beta(middle, a, b) < p ? low : high) = middle;
  }
  return (low + high) / 2;
}

}  // namespace sinopia
