#pragma once

#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// Turns `from` towards `to` by `amount` in [0,1] on the great circle, column by column of the picture, as
/// AUTOMATIC1111 mixes a seed with a variation seed (modules/rng.py slerp). Both [1,H,W,C].
Tensor slerp_noise(const Tensor& from, const Tensor& to, double amount);

}  // namespace sinopia
