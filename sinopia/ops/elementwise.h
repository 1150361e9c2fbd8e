#pragma once

#include "sinopia/backend/kernels.h"
#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// NumPy broadcasting, f32. Throws InvalidArgument if the shapes do not broadcast.
Tensor operator+(const Tensor& a, const Tensor& b);
Tensor operator-(const Tensor& a, const Tensor& b);
Tensor operator*(const Tensor& a, const Tensor& b);
Tensor operator/(const Tensor& a, const Tensor& b);
Tensor minimum(const Tensor& a, const Tensor& b);
Tensor maximum(const Tensor& a, const Tensor& b);

/// With a number, which is rounded to float first, as PyTorch does.
Tensor operator+(const Tensor& x, double value);
Tensor operator-(const Tensor& x, double value);
Tensor operator*(const Tensor& x, double value);
Tensor operator/(const Tensor& x, double value);
Tensor operator+(double value, const Tensor& x);
Tensor operator-(double value, const Tensor& x);
Tensor operator*(double value, const Tensor& x);
Tensor operator-(const Tensor& x);

/// x summed over the axes along which `shape` broadcasts to x's, in `shape`; the opposite of broadcasting.
/// Throws InvalidArgument if it does not.
Tensor sum_to(const Tensor& x, const Shape& shape);
/// Of all elements, as a scalar.
Tensor sum(const Tensor& x);
Tensor mean(const Tensor& x);

/// Limits every element to [low, high].
Tensor clamp(const Tensor& x, float low, float high);

Tensor exp(const Tensor& x);
Tensor log(const Tensor& x);
Tensor sqrt(const Tensor& x);
Tensor abs(const Tensor& x);
Tensor square(const Tensor& x);

}  // namespace sinopia
