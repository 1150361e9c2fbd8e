#pragma once

#include "sinopia/tensor/tensor.h"

namespace sinopia::cuda {

/// y [..] = x [..], quantised (any of ggml's types that DType has), in y's dtype: f32, f16 or bf16.
void dequantise(const Tensor& x, Tensor& y);

}  // namespace sinopia::cuda
