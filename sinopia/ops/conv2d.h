#pragma once

#include "sinopia/backend/kernels.h"
#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// x [N,H,W,I], weight [O,I,KH,KW] -> [N,OH,OW,O], OH = (H + top + bottom - KH) / stride + 1:
/// activation(conv(x) + bias [O] + add), add [N,OH,OW,O] or [N,O]; bias and add may be absent.
/// Throws InvalidArgument if shapes disagree or the kernel does not fit the padded picture.
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dOptions& options,
              const Tensor& add = {}, Activation activation = Activation::None);

}  // namespace sinopia
