#include "sinopia/pipelines/initial_noise.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "sinopia/ops/elementwise.h"

namespace sinopia {

Tensor slerp_noise(const Tensor& from, const Tensor& to, double amount) {
  SINOPIA_CHECK(from.shape() == to.shape() && from.rank() == 4 && from.dim(0) == 1, InvalidArgument,
                "[slerp] expected two latents [1,H,W,C], got {} and {}", describe(from), describe(to));
  const int64_t H = from.dim(1), columns = from.dim(2) * from.dim(3);
  const float *a = from.data<float>(), *b = to.data<float>();
  std::vector<double> dot(static_cast<size_t>(columns));
  double mean = 0;
  for (int64_t c = 0; c < columns; ++c) {
    double aa = 0, bb = 0, ab = 0;
    for (int64_t y = 0; y < H; ++y) {
      const double p = a[y * columns + c], q = b[y * columns + c];
      aa += p * p, bb += q * q, ab += p * q;
    }
    dot[static_cast<size_t>(c)] = ab / std::sqrt(aa * bb);
    mean += dot[static_cast<size_t>(c)] / static_cast<double>(columns);
  }
  if (mean > 0.9995) return from * amount + to * (1 - amount);  // the same noise twice
  Tensor result = empty_like(from);
  float* y = result.data<float>();
  for (int64_t c = 0; c < columns; ++c) {
    const double omega = std::acos(std::clamp(dot[static_cast<size_t>(c)], -1.0, 1.0)),
                 sine = std::sin(omega);
    const bool parallel = sine < 1e-6;
    const double p = parallel ? 1 - amount : std::sin((1 - amount) * omega) / sine;
    const double q = parallel ? amount : std::sin(amount * omega) / sine;
    for (int64_t i = c; i < H * columns; i += columns) y[i] = static_cast<float>(p * a[i] + q * b[i]);
  }
  return result;
}

}  // namespace sinopia
