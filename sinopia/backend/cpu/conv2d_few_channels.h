#pragma once

#include "sinopia/backend/cpu/gemm.h"

namespace sinopia {

/// Pictures and latents: the runs of neighbouring channels in a patch are too short to be looked for one by
/// one.
inline constexpr int64_t kFewChannels = 16;

/// A convolution of fewer than kFewChannels channels, of any geometry; w is [N,I,KH,KW], f32, f16 or bf16.
/// problem.patches must be set.
void conv2d_few_channels(const GemmProblem& problem);

}  // namespace sinopia
