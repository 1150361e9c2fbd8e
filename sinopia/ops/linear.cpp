#include "sinopia/ops/linear.h"

#include "sinopia/ops/checks.h"

namespace sinopia {

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& add,
              Activation activation) {
  checks::activation("linear", "x", x);
  checks::rank_at_least("linear", x, 1);
  checks::matrix("linear", "weight", weight, x);
  SINOPIA_CHECK(x.dim(-1) == weight.dim(1), InvalidArgument, "[linear] expected I={}, got {} (x={})",
                weight.dim(1), x.dim(-1), to_string(x.shape()));
  checks::optional_vector("linear", "bias", bias, weight.dim(0), x);
  const Shape shape = x.shape().with(-1, weight.dim(0));
  if (add.defined()) {
    checks::operand("linear", "add", add, x);
    SINOPIA_CHECK(add.shape() == shape, InvalidArgument, "[linear] expected add={}, got {}", to_string(shape),
                  to_string(add.shape()));
  }
  Tensor y = Tensor::empty(shape, x.dtype(), x.device());
  if (y.numel() > 0) kernels(x.device()).linear(x, weight, bias, add, activation, y);
  return y;
}

Tensor matmul(const Tensor& a, const Tensor& b, bool transpose_b, float alpha) {
  checks::activation("matmul", "a", a);
  checks::operand("matmul", "b", b, a);
  checks::rank("matmul", "a", a, 3);
  checks::rank("matmul", "b", b, 3);
  const int64_t inner = b.dim(transpose_b ? 2 : 1);
  SINOPIA_CHECK(a.dim(0) == b.dim(0) && a.dim(2) == inner, InvalidArgument,
                "[matmul] expected B={} and K={}, got {} and {} (a={}, b={})", a.dim(0), a.dim(2), b.dim(0),
                inner, to_string(a.shape()), to_string(b.shape()));
  Tensor y = Tensor::empty({a.dim(0), a.dim(1), b.dim(transpose_b ? 1 : 2)}, a.dtype(), a.device());
  if (y.numel() > 0) kernels(a.device()).matmul(a, b, transpose_b, alpha, y);
  return y;
}

}  // namespace sinopia
