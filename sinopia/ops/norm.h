#pragma once

#include "sinopia/backend/kernels.h"
#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// Over the last axis of x [..,D]; weight and bias [D] may be absent (Ba et al. 2016).
Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps);

/// x / sqrt(mean(x^2) + eps) * weight over the last axis (Zhang and Sennrich 2019).
Tensor rms_norm(const Tensor& x, const Tensor& weight, float eps);

/// x [N,..,C], statistics over everything but N and the group; weight and bias [C]; then the activation
/// (Wu and He 2018). Throws InvalidArgument if groups does not divide C.
Tensor group_norm(const Tensor& x, int groups, const Tensor& weight, const Tensor& bias, float eps,
                  Activation activation = Activation::None);

/// x [..,C], statistics of this x over everything but C, as in training; weight and bias [C] (Ioffe and
/// Szegedy 2015).
Tensor batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps);

}  // namespace sinopia
