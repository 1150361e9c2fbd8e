#include "sinopia/ops/elementwise.h"

#include <algorithm>
#include <vector>

#include "sinopia/ops/checks.h"
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

Tensor binary(std::string_view name, BinaryOp op, const Tensor& a, const Tensor& b) {
  checks::activation(name, "a", a);
  checks::operand(name, "b", b, a);
  Tensor y = Tensor::empty(broadcast(name, a.shape(), b.shape()), a.dtype(), a.device());
  kernels(a.device()).binary(op, a, b, y);
  return y;
}

Tensor affine(std::string_view name, const Tensor& x, float scale, float shift) {
  checks::activation(name, "x", x);
  Tensor y = empty_like(x);
  kernels(x.device()).affine(x, scale, shift, y);
  return y;
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
  return y;
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
  return y;
}

Tensor exp(const Tensor& x) { return unary("exp", UnaryOp::Exp, x); }
Tensor log(const Tensor& x) { return unary("log", UnaryOp::Log, x); }
Tensor sqrt(const Tensor& x) { return unary("sqrt", UnaryOp::Sqrt, x); }
Tensor abs(const Tensor& x) { return unary("abs", UnaryOp::Abs, x); }
Tensor square(const Tensor& x) { return unary("square", UnaryOp::Square, x); }

}  // namespace sinopia
