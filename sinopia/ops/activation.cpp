#include "sinopia/ops/activation.h"

#include <array>

#include "sinopia/autograd/tape.h"
#include "sinopia/ops/checks.h"
#include "sinopia/ops/unary.h"

namespace sinopia {
namespace {

UnaryOp op_of(Activation activation) {
  switch (activation) {
    case Activation::None:
    case Activation::Silu:
      return UnaryOp::Silu;
    case Activation::Gelu:
      return UnaryOp::Gelu;
    case Activation::GeluTanh:
      return UnaryOp::GeluTanh;
    case Activation::QuickGelu:
      return UnaryOp::QuickGelu;
    case Activation::Relu:
      return UnaryOp::Relu;
    case Activation::Tanh:
      return UnaryOp::Tanh;
    case Activation::Sigmoid:
      break;
  }
  return UnaryOp::Sigmoid;
}

}  // namespace

Tensor silu(const Tensor& x) { return unary("silu", UnaryOp::Silu, x); }
Tensor gelu(const Tensor& x) { return unary("gelu", UnaryOp::Gelu, x); }
Tensor gelu_tanh(const Tensor& x) { return unary("gelu_tanh", UnaryOp::GeluTanh, x); }
Tensor quick_gelu(const Tensor& x) { return unary("quick_gelu", UnaryOp::QuickGelu, x); }
Tensor relu(const Tensor& x) { return unary("relu", UnaryOp::Relu, x); }
Tensor leaky_relu(const Tensor& x) { return unary("leaky_relu", UnaryOp::LeakyRelu, x); }
Tensor tanh(const Tensor& x) { return unary("tanh", UnaryOp::Tanh, x); }
Tensor sigmoid(const Tensor& x) { return unary("sigmoid", UnaryOp::Sigmoid, x); }

Tensor activate(const Tensor& x, Activation activation) {
  return activation == Activation::None ? x : unary("activate", op_of(activation), x);
}

Tensor activation_gradient(const Tensor& x, Activation activation, const Tensor& dy) {
  if (activation == Activation::None) return dy;
  Tensor dx = empty_like(x);
  kernels(x.device()).unary_backward(op_of(activation), x, dy, dx);
  return dx;
}

Tensor geglu(const Tensor& x) {
  checks::activation("geglu", "x", x);
  checks::rank_at_least("geglu", x, 1);
  SINOPIA_CHECK(x.dim(-1) % 2 == 0, InvalidArgument, "[geglu] expected an even last extent, got {} (x={})",
                x.dim(-1), to_string(x.shape()));
  Tensor y = Tensor::empty(x.shape().with(-1, x.dim(-1) / 2), x.dtype(), x.device());
  kernels(x.device()).geglu(x, y);
  return record("geglu", y, std::array{&x}, [x](const Tensor& dy) {
    Tensor dx = empty_like(x);
    kernels(x.device()).geglu_backward(x, dy, dx);
    return Gradients{dx};
  });
}

Tensor softmax(const Tensor& x) {
  checks::activation("softmax", "x", x);
  checks::rank_at_least("softmax", x, 1);
  Tensor y = empty_like(x);
  kernels(x.device()).softmax(x, y);
  return record("softmax", y, std::array{&x}, [y](const Tensor& dy) {
    Tensor dx = empty_like(y);
    kernels(y.device()).softmax_backward(y, dy, dx);
    return Gradients{dx};
  });
}

}  // namespace sinopia
