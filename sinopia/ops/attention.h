#pragma once

#include "sinopia/backend/kernels.h"
#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// softmax(scale * q k^T + bias) v per head; q [B,T,H*D], k and v [B,S,H*D] -> [B,T,H*D] (Vaswani et al.
/// 2017, tiled as in Dao et al. 2022: memory grows with T, not T*S). bias [1 or B, 1 or H, T, S] may be
/// absent.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options,
                 const Tensor& bias = {});

}  // namespace sinopia
