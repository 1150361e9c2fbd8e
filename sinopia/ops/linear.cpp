#include "sinopia/ops/linear.h"

#include <algorithm>
#include <array>

#include "sinopia/autograd/tape.h"
#include "sinopia/ops/activation.h"
#include "sinopia/ops/checks.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/shape.h"

namespace sinopia {
namespace {

Tensor product(const Tensor& a, const Tensor& b) {
  const auto batch_of_one = [](const Tensor& x) { return x.reshape({1, x.dim(0), x.dim(1)}); };
  return matmul(batch_of_one(a), batch_of_one(b)).reshape({a.dim(0), b.dim(1)});
}

Gradients linear_gradients(const Tensor& x, const Tensor& weight, const Tensor& dy, const Wanted& wanted) {
  const int64_t out = weight.dim(0), in = weight.dim(1), rows = dy.numel() / std::max<int64_t>(1, out);
  const Tensor flat = dy.reshape({rows, out});
  Gradients gradients(4);
  if (wanted[0]) gradients[0] = product(flat, to_dtype(weight, DType::F32)).reshape(x.shape());
  if (wanted[1]) gradients[1] = product(permute(flat, {1, 0}), x.reshape({rows, in}));
  if (wanted[2]) gradients[2] = sum_to(flat, {out});
  if (wanted[3]) gradients[3] = dy;
  return gradients;
}

}  // namespace

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
  // The activation's gradient needs what comes before it.
  if (activation != Activation::None && recording_gradients())
    return activate(linear(x, weight, bias, add), activation);
  Tensor y = Tensor::empty(shape, x.dtype(), x.device());
  if (y.numel() > 0) kernels(x.device()).linear(x, weight, bias, add, activation, y);
  return record("linear", y, std::array{&x, &weight, &bias, &add},
                [x, weight](const Tensor& dy, const Wanted& wanted) {
                  return linear_gradients(x, weight, dy, wanted);
                });
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
  return record("matmul", y, std::array{&a, &b},
                [a, b, transpose_b, alpha](const Tensor& dy, const Wanted& wanted) {
                  Gradients gradients(2);
                  if (wanted[0]) gradients[0] = matmul(dy, b, !transpose_b, alpha);
                  if (wanted[1]) {
                    const Tensor& left = transpose_b ? dy : a;
                    const Tensor& right = transpose_b ? a : dy;
                    gradients[1] = matmul(permute(left, {0, 2, 1}), right, false, alpha);
                  }
                  return gradients;
                });
}

}  // namespace sinopia
