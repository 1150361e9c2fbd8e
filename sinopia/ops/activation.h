#pragma once

#include "sinopia/backend/kernels.h"
#include "sinopia/tensor/tensor.h"

namespace sinopia {

Tensor silu(const Tensor& x);        ///< x * sigmoid(x)
Tensor gelu(const Tensor& x);        ///< x * Phi(x), with erf
Tensor gelu_tanh(const Tensor& x);   ///< the tanh approximation of gelu
Tensor quick_gelu(const Tensor& x);  ///< x * sigmoid(1.702 x), CLIP ViT-L
Tensor relu(const Tensor& x);
Tensor tanh(const Tensor& x);
Tensor sigmoid(const Tensor& x);
Tensor activate(const Tensor& x, Activation activation);

/// x [..,2D] -> [..,D]: first half * gelu(second half); GLU variants, Shazeer 2020. Throws InvalidArgument if
/// the last extent is odd.
Tensor geglu(const Tensor& x);

/// Over the last axis.
Tensor softmax(const Tensor& x);

}  // namespace sinopia
