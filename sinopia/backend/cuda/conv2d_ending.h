#pragma once

#include "sinopia/backend/kernels.h"

namespace sinopia::cuda {

/// y [N,OH,OW,O] = activation(y + bias [O] + add), in place and in f32; add is like y, or [N,O] for every
/// pixel of an image alike. bias and add may be absent.
void finish_convolution(const Tensor& bias, const Tensor& add, Activation activation, Tensor& y);

/// to [N,H,W,C] = the part of from [N,FH,FW,C] that begins at (top, left), which may be negative; 0 where
/// there is none. Of one dtype.
void cut_images(const Tensor& from, int64_t top, int64_t left, Tensor& to);

}  // namespace sinopia::cuda
