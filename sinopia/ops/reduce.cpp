#include "sinopia/ops/reduce.h"

#include "sinopia/backend/kernels.h"
#include "sinopia/ops/checks.h"

namespace sinopia {

Moments moments(const Tensor& x, int correction) {
  checks::activation("moments", "x", x);
  checks::rank_at_least("moments", x, 1);
  SINOPIA_CHECK(correction >= 0, InvalidArgument, "[moments] expected correction >= 0, got {}", correction);
  const Shape shape{x.dim(0)};
  Moments result{Tensor::empty(shape, x.dtype(), x.device()), Tensor::empty(shape, x.dtype(), x.device())};
  kernels(x.device()).moments(x, correction, result.mean, result.variance);
  return result;
}

bool all_finite(const Tensor& x) {
  checks::activation("all_finite", "x", x);
  return kernels(x.device()).all_finite(x);
}

}  // namespace sinopia
