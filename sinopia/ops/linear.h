#pragma once

#include "sinopia/backend/kernels.h"
#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// activation(x [..,I] * weight [O,I]^T + bias [O] + add [..,O]); bias and add may be absent. The weight is
/// f32, f16, bf16 or quantised and is widened next to the multiply. Throws InvalidArgument if shapes
/// disagree.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, const Tensor& add = {},
              Activation activation = Activation::None);

/// alpha * a [B,M,K] * b [B,K,N]; a is [B,K,M] if Left is transposed, b [B,N,K] if Right.
Tensor matmul(const Tensor& a, const Tensor& b, Transpose transpose = Transpose::None, float alpha = 1.0f);

}  // namespace sinopia
