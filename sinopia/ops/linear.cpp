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

Tensor product(const Tensor& a, const Tensor& b, Transpose transpose = Transpose::None) {
  const auto batch_of_one = [](const Tensor& x) { return x.reshape({1, x.dim(0), x.dim(1)}); };
  const Tensor y = matmul(batch_of_one(a), batch_of_one(b), transpose);
  return y.reshape({y.dim(1), y.dim(2)});
}

Gradients linear_gradients(const Tensor& x, const Tensor& weight, const Tensor& dy, const Wanted& wanted) {
  const int64_t out = weight.dim(0), in = weight.dim(1), rows = dy.numel() / std::max<int64_t>(1, out);
  const Tensor flat = dy.reshape({rows, out});
  Gradients gradients(4);
  if (wanted[0]) gradients[0] = product(flat, to_dtype(weight, dy.dtype())).reshape(x.shape());
  if (wanted[1]) gradients[1] = product(flat, x.reshape({rows, in}), Transpose::Left);
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

Tensor matmul(const Tensor& a, const Tensor& b, Transpose transpose, float alpha) {
  checks::activation("matmul", "a", a);
  checks::operand("matmul", "b", b, a);
  checks::rank("matmul", "a", a, 3);
  checks::rank("matmul", "b", b, 3);
  const bool left = transpose == Transpose::Left, right = transpose == Transpose::Right;
  const int64_t K = a.dim(left ? 1 : 2), inner = b.dim(right ? 2 : 1);
  SINOPIA_CHECK(a.dim(0) == b.dim(0) && K == inner, InvalidArgument,
                "[matmul] expected B={} and K={}, got {} and {} (a={}, b={})", a.dim(0), K, b.dim(0), inner,
                to_string(a.shape()), to_string(b.shape()));
  Tensor y = Tensor::empty({a.dim(0), a.dim(left ? 2 : 1), b.dim(right ? 1 : 2)}, a.dtype(), a.device());
  if (y.numel() > 0) kernels(a.device()).matmul(a, b, transpose, alpha, y);
  return record(
      "matmul", y, std::array{&a, &b}, [a, b, transpose, alpha](const Tensor& dy, const Wanted& wanted) {
        const auto of_a = [&] {
          if (transpose == Transpose::Left) return matmul(b, dy, Transpose::Right, alpha);
          return matmul(dy, b, transpose == Transpose::Right ? Transpose::None : Transpose::Right, alpha);
        };
        const auto of_b = [&] {
          if (transpose == Transpose::Left) return matmul(a, dy, Transpose::None, alpha);
          return transpose == Transpose::Right ? matmul(dy, a, Transpose::Left, alpha)
                                               : matmul(a, dy, Transpose::Left, alpha);
        };
        return Gradients{wanted[0] ? of_a() : Tensor(), wanted[1] ? of_b() : Tensor()};
      });
}

}  // namespace sinopia
