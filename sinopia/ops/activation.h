#pragma once

#include "sinopia/backend/kernels.h"
#include "sinopia/tensor/tensor.h"

namespace sinopia {

Tensor silu(const Tensor& x);        ///< x * sigmoid(x)
Tensor gelu(const Tensor& x);        ///< x * Phi(x), with erf
Tensor gelu_tanh(const Tensor& x);   ///< the tanh approximation of gelu
Tensor quick_gelu(const Tensor& x);  ///< x * sigmoid(1.702 x), CLIP ViT-L
Tensor relu(const Tensor& x);
Tensor leaky_relu(const Tensor& x);  ///< 0.2 x where x < 0, as in patch discriminators
Tensor tanh(const Tensor& x);
Tensor sigmoid(const Tensor& x);
Tensor activate(const Tensor& x, Activation activation);
/// What reaches x of activate(x): dy f'(x). x may be absent without an activation.
Tensor activation_gradient(const Tensor& x, Activation activation, const Tensor& dy);

/// x [..,2D] -> [..,D]: first half * gelu(second half); GLU variants, Shazeer 2020. Throws InvalidArgument if
/// the last extent is odd.
Tensor geglu(const Tensor& x);

/// Over the last axis.
Tensor softmax(const Tensor& x);

}  // namespace sinopia
