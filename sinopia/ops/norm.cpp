#include "sinopia/ops/norm.h"

#include <array>

#include "sinopia/autograd/tape.h"
#include "sinopia/ops/activation.h"
#include "sinopia/ops/checks.h"

namespace sinopia {
namespace {

/// Where a gradient of the parameter goes, if it is wanted.
Tensor gradient_if(bool wanted, const Tensor& parameter) {
  return wanted ? Tensor::empty(parameter.shape(), DType::F32, parameter.device()) : Tensor();
}

}  // namespace

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps) {
  checks::activation("layer_norm", "x", x);
  checks::rank_at_least("layer_norm", x, 1);
  checks::optional_vector("layer_norm", "weight", weight, x.dim(-1), x);
  checks::optional_vector("layer_norm", "bias", bias, x.dim(-1), x);
  Tensor y = empty_like(x);
  kernels(x.device()).layer_norm(x, weight, bias, eps, y);
  return record("layer_norm", y, std::array{&x, &weight, &bias},
                [x, weight, bias, eps](const Tensor& dy, const Wanted& wanted) {
                  Tensor dx = empty_like(x), dw = gradient_if(wanted[1], weight),
                         db = gradient_if(wanted[2], bias);
                  kernels(x.device()).layer_norm_backward(x, weight, eps, dy, dx, dw, db);
                  return Gradients{dx, dw, db};
                });
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, float eps) {
  checks::activation("rms_norm", "x", x);
  checks::rank_at_least("rms_norm", x, 1);
  checks::optional_vector("rms_norm", "weight", weight, x.dim(-1), x);
  Tensor y = empty_like(x);
  kernels(x.device()).rms_norm(x, weight, eps, y);
  return record("rms_norm", y, std::array{&x, &weight},
                [x, weight, eps](const Tensor& dy, const Wanted& wanted) {
                  Tensor dx = empty_like(x), dw = gradient_if(wanted[1], weight);
                  kernels(x.device()).rms_norm_backward(x, weight, eps, dy, dx, dw);
                  return Gradients{dx, dw};
                });
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
  // What comes before the activation is found again instead of kept.
  return record("group_norm", y, std::array{&x, &weight, &bias}, [=](const Tensor& dy, const Wanted& wanted) {
    const Tensor normal =
        activation == Activation::None ? Tensor() : group_norm(x, groups, weight, bias, eps);
    const Tensor inner = activation_gradient(normal, activation, dy);
    Tensor dx = empty_like(x), dw = gradient_if(wanted[1], weight), db = gradient_if(wanted[2], bias);
    kernels(x.device()).group_norm_backward(x, groups, weight, eps, inner, dx, dw, db);
    return Gradients{dx, dw, db};
  });
}

Tensor batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps) {
  checks::activation("batch_norm", "x", x);
  checks::rank_at_least("batch_norm", x, 2);
  const int64_t C = x.dim(-1);
  SINOPIA_CHECK(x.numel() > 0, InvalidArgument, "[batch_norm] expected elements, got {}", describe(x));
  return group_norm(x.reshape({1, x.numel() / C, C}), static_cast<int>(C), weight, bias, eps)
      .reshape(x.shape());
}

}  // namespace sinopia
