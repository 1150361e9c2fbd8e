#include <cmath>

#include "sinopia/backend/cpu/cpu_kernels.h"

namespace sinopia {

// Angles are built up in f32, step by step as the reference does: at t = 1000 the last bit of a frequency is
// worth 6e-5, so that better arithmetic would give other numbers.
void CpuKernels::timestep_embedding(const Tensor& t, bool cos_first, float shift, float max_period,
                                    Tensor& y) {
  const int64_t D = y.dim(1), half = D / 2;
  const float log_period = static_cast<float>(-std::log(static_cast<double>(max_period)));
  const float divisor = static_cast<float>(static_cast<double>(half) - static_cast<double>(shift));
  for (int64_t n = 0; n < t.numel(); ++n) {
    float* row = y.data<float>() + n * D;
    float *cosines = cos_first ? row : row + half, *sines = cos_first ? row + half : row;
    for (int64_t i = 0; i < half; ++i) {
      const float exponent = log_period * static_cast<float>(i) / divisor;
      const float angle = t.data<float>()[n] * std::exp(exponent);
      cosines[i] = std::cos(angle);
      sines[i] = std::sin(angle);
    }
    if (D % 2) row[D - 1] = 0.0f;
  }
}

}  // namespace sinopia
