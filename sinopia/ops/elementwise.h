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

/// Limits every element to [low, high].
Tensor clamp(const Tensor& x, float low, float high);

Tensor exp(const Tensor& x);
Tensor log(const Tensor& x);
Tensor sqrt(const Tensor& x);
Tensor abs(const Tensor& x);
Tensor square(const Tensor& x);

}  // namespace sinopia
