#pragma once

#include "sinopia/tensor/tensor.h"

namespace sinopia {

struct Moments {
  Tensor mean;      ///< [N]
  Tensor variance;  ///< [N]
};

/// Mean and variance of each x[i]; the variance divides by n - correction (1 as torch.std does by default).
Moments moments(const Tensor& x, int correction = 1);

/// Neither NaN nor infinity in x.
bool all_finite(const Tensor& x);

}  // namespace sinopia
