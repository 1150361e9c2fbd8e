#pragma once

#include "sinopia/backend/kernels.h"
#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// x [N,H,W,C] -> [N,height,width,C], as torch.nn.functional.interpolate(align_corners=False) does.
/// Throws InvalidArgument for an empty target.
Tensor resize(const Tensor& x, int64_t height, int64_t width, ResizeFilter filter, bool antialias = false);

/// Every pixel `factor` x `factor` times.
Tensor upsample_nearest(const Tensor& x, int factor);

}  // namespace sinopia
