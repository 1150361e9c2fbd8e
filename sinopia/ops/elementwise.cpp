#include "sinopia/ops/elementwise.h"

#include <algorithm>
#include <array>
#include <limits>
#include <vector>

#include "sinopia/autograd/tape.h"
#include "sinopia/ops/checks.h"
#include "sinopia/ops/shape.h"
#include "sinopia/ops/unary.h"

namespace sinopia {
namespace {

Shape broadcast(std::string_view name, const Shape& a, const Shape& b) {
  std::vector<int64_t> dims(static_cast<size_t>(std::max(a.rank(), b.rank())));
  for (int back = 1; back <= static_cast<int>(dims.size()); ++back) {
    const int64_t in_a = back <= a.rank() ? a.dim(-back) : 1, in_b = back <= b.rank() ? b.dim(-back) : 1;
    SINOPIA_CHECK(in_a == in_b || in_a == 1 || in_b == 1, InvalidArgument,
                  "[{}] expected shapes that broadcast, got {} and {}", name, to_string(a), to_string(b));
    dims[dims.size() - static_cast<size_t>(back)] = in_a == 1 ? in_b : in_a;
  }
  return Shape(dims);
}

Tensor masked(const Tensor& x, const Tensor& dy, float low, float high) {
  Tensor dx = empty_like(x);
  kernels(x.device()).clamp_backward(x, low, high, dy, dx);
  return dx;
}

/// Of minimum and maximum: dy where a is the one taken, half of it where both are.
Tensor taken(BinaryOp op, const Tensor& a, const Tensor& b, const Tensor& dy) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kLeast = std::numeric_limits<float>::denorm_min();
  const Tensor ahead = op == BinaryOp::Minimum ? b - a : a - b;
  const Tensor wide = dy + (ahead - ahead);  // dy in the shape of both
  return masked(ahead, wide, kLeast, kInfinity) + masked(ahead, wide, 0.0f, 0.0f) * 0.5;
}

/// What reaches a and b, in y's shape.
Gradients binary_gradients(BinaryOp op, const Tensor& a, const Tensor& b, const Tensor& dy,
                           const Wanted& wanted) {
  const auto of_a = [&]() -> Tensor {
    switch (op) {
      case BinaryOp::Multiply:
        return dy * b;
      case BinaryOp::Divide:
        return dy / b;
      case BinaryOp::Minimum:
      case BinaryOp::Maximum:
        return taken(op, a, b, dy);
      default:
        return dy;
    }
  };
  const auto of_b = [&]() -> Tensor {
    switch (op) {
      case BinaryOp::Subtract:
        return -dy;
      case BinaryOp::Multiply:
        return dy * a;
      case BinaryOp::Divide:
        return -(dy * a) / square(b);
      case BinaryOp::Minimum:
      case BinaryOp::Maximum:
        return taken(op, b, a, dy);
      default:
        return dy;
    }
  };
  return {wanted[0] ? sum_to(of_a(), a.shape()) : Tensor(), wanted[1] ? sum_to(of_b(), b.shape()) : Tensor()};
}

Tensor binary(std::string_view name, BinaryOp op, const Tensor& a, const Tensor& b) {
  checks::activation(name, "a", a);
  checks::operand(name, "b", b, a);
  Tensor y = Tensor::empty(broadcast(name, a.shape(), b.shape()), a.dtype(), a.device());
  kernels(a.device()).binary(op, a, b, y);
  return record(name, y, std::array{&a, &b}, [op, a, b](const Tensor& dy, const Wanted& wanted) {
    return binary_gradients(op, a, b, dy, wanted);
  });
}

Tensor affine(std::string_view name, const Tensor& x, float scale, float shift) {
  checks::activation(name, "x", x);
  Tensor y = empty_like(x);
  kernels(x.device()).affine(x, scale, shift, y);
  return record(name, y, std::array{&x}, [scale](const Tensor& dy) { return Gradients{dy * scale}; });
}

// A number as a tensor, for what affine cannot say without another rounding.
Tensor scalar(const Tensor& x, double value) {
  Tensor result = Tensor::empty(Shape{}, x.dtype(), x.device());
  kernels(x.device()).fill(result, static_cast<float>(value));
  return result;
}

}  // namespace

Tensor unary(std::string_view name, UnaryOp op, const Tensor& x) {
  checks::activation(name, "x", x);
  Tensor y = empty_like(x);
  kernels(x.device()).unary(op, x, y);
  return record(name, y, std::array{&x}, [op, x](const Tensor& dy) {
    Tensor dx = empty_like(x);
    kernels(x.device()).unary_backward(op, x, dy, dx);
    return Gradients{dx};
  });
}

Tensor sum_to(const Tensor& x, const Shape& shape) {
  checks::activation("sum_to", "x", x);
  Tensor y = x;
  // One run of axes after another, the last first; a run that is summed away is the middle of three.
  const int extra = x.rank() - shape.rank();
  const auto is_summed = [&](int axis) { return axis < extra || shape.dim(axis - extra) != x.dim(axis); };
  SINOPIA_CHECK(extra >= 0, InvalidArgument, "[sum_to] expected {} to broadcast to {}", to_string(shape),
                to_string(x.shape()));
  for (int axis = x.rank() - 1; axis >= 0; --axis) {
    if (!is_summed(axis)) continue;
    SINOPIA_CHECK(axis < extra || shape.dim(axis - extra) == 1, InvalidArgument,
                  "[sum_to] expected {} to broadcast to {}", to_string(shape), to_string(x.shape()));
    int first = axis;
    while (first > 0 && is_summed(first - 1)) --first;
    int64_t before = 1, middle = 1;
    for (int i = 0; i < first; ++i) before *= x.dim(i);
    for (int i = first; i <= axis; ++i) middle *= x.dim(i);
    const int64_t after = y.numel() / std::max<int64_t>(1, before * middle);
    Tensor sums = Tensor::empty({before, after}, x.dtype(), x.device());
    kernels(x.device()).sum_middle(y.reshape({before, middle, after}), sums);
    y = sums;
    axis = first;
  }
  y = y.reshape(shape);
  return record("sum_to", without_gradient(y), std::array{&x},
                [whole = x.shape()](const Tensor& dy) { return Gradients{zeros(whole, dy.device()) + dy}; });
}

Tensor sum(const Tensor& x) { return sum_to(x, {}); }
Tensor mean(const Tensor& x) {
  SINOPIA_CHECK(x.numel() > 0, InvalidArgument, "[mean] expected elements, got {}", describe(x));
  return sum(x) * (1.0 / static_cast<double>(x.numel()));
}

Tensor operator+(const Tensor& a, const Tensor& b) { return binary("add", BinaryOp::Add, a, b); }
Tensor operator-(const Tensor& a, const Tensor& b) { return binary("subtract", BinaryOp::Subtract, a, b); }
Tensor operator*(const Tensor& a, const Tensor& b) { return binary("multiply", BinaryOp::Multiply, a, b); }
Tensor operator/(const Tensor& a, const Tensor& b) { return binary("divide", BinaryOp::Divide, a, b); }
Tensor minimum(const Tensor& a, const Tensor& b) { return binary("minimum", BinaryOp::Minimum, a, b); }
Tensor maximum(const Tensor& a, const Tensor& b) { return binary("maximum", BinaryOp::Maximum, a, b); }

Tensor operator+(const Tensor& x, double value) { return affine("add", x, 1.0f, static_cast<float>(value)); }
Tensor operator-(const Tensor& x, double value) {
  return affine("subtract", x, 1.0f, -static_cast<float>(value));
}
Tensor operator*(const Tensor& x, double value) {
  return affine("multiply", x, static_cast<float>(value), -0.0f);
}
Tensor operator/(const Tensor& x, double value) {
  checks::activation("divide", "x", x);
  return x / scalar(x, value);
}
Tensor operator+(double value, const Tensor& x) { return x + value; }
Tensor operator-(double value, const Tensor& x) {
  return affine("subtract", x, -1.0f, static_cast<float>(value));
}
Tensor operator*(double value, const Tensor& x) { return x * value; }
Tensor operator-(const Tensor& x) { return affine("negate", x, -1.0f, -0.0f); }

Tensor clamp(const Tensor& x, float low, float high) {
  checks::activation("clamp", "x", x);
  SINOPIA_CHECK(low <= high, InvalidArgument, "[clamp] expected low <= high, got [{},{}]", low, high);
  Tensor y = empty_like(x);
  kernels(x.device()).clamp(x, low, high, y);
  return record("clamp", y, std::array{&x},
                [x, low, high](const Tensor& dy) { return Gradients{masked(x, dy, low, high)}; });
}

Tensor exp(const Tensor& x) { return unary("exp", UnaryOp::Exp, x); }
Tensor log(const Tensor& x) { return unary("log", UnaryOp::Log, x); }
Tensor sqrt(const Tensor& x) { return unary("sqrt", UnaryOp::Sqrt, x); }
Tensor abs(const Tensor& x) { return unary("abs", UnaryOp::Abs, x); }
Tensor square(const Tensor& x) { return unary("square", UnaryOp::Square, x); }

}  // namespace sinopia
