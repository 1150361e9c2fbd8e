#include "sinopia/ops/norm.h"

#include "sinopia/ops/checks.h"

namespace sinopia {

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps) {
  checks::activation("layer_norm", "x", x);
  checks::rank_at_least("layer_norm", x, 1);
  checks::optional_vector("layer_norm", "weight", weight, x.dim(-1), x);
  checks::optional_vector("layer_norm", "bias", bias, x.dim(-1), x);
  Tensor y = empty_like(x);
  kernels(x.device()).layer_norm(x, weight, bias, eps, y);
  return y;
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, float eps) {
  checks::activation("rms_norm", "x", x);
  checks::rank_at_least("rms_norm", x, 1);
  checks::optional_vector("rms_norm", "weight", weight, x.dim(-1), x);
  Tensor y = empty_like(x);
  kernels(x.device()).rms_norm(x, weight, eps, y);
  return y;
}

Tensor group_norm(const Tensor& x, int groups, const Tensor& weight, const Tensor& bias, float eps,
                  Activation activation) {
  checks::activation("group_norm", "x", x);
  checks::rank_at_least("group_norm", x, 2);
  SINOPIA_CHECK(groups >= 1 && x.dim(-1) % groups == 0, InvalidArgument,
                "[group_norm] expected groups that divide C={}, got {} (x={})", x.dim(-1), groups,
                to_string(x.shape()));
  checks::optional_vector("group_norm", "weight", weight, x.dim(-1), x);
  checks::optional_vector("group_norm", "bias", bias, x.dim(-1), x);
  Tensor y = empty_like(x);
  kernels(x.device()).group_norm(x, groups, weight, bias, eps, activation, y);
  return y;
}

}  // namespace sinopia
