#pragma once

#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// table [V,D], ids i32 [..] -> [..,D] on the table's device, in f32, or on a GPU in the table's type if that
/// is f16 or bf16. Ids are checked on the CPU, where they had better be. Throws InvalidArgument for an id
/// outside [0,V).
Tensor embedding(const Tensor& table, const Tensor& ids);

struct TimestepEmbeddingOptions {
  int64_t dim = 320;
  bool cos_first = true;  ///< diffusers' flip_sin_to_cos
  float shift = 0.0f;     ///< diffusers' downscale_freq_shift
  float max_period = 10000;
};

/// t [N] f32 -> [N,dim]: sinusoids of DDPM (Ho et al. 2020); an odd dim is padded with a zero.
/// Reference: diffusers models/embeddings.py get_timestep_embedding.
Tensor timestep_embedding(const Tensor& t, const TimestepEmbeddingOptions& options);

}  // namespace sinopia
