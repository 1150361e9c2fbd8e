#pragma once

#include "sinopia/pipelines/generation.h"
#include "sinopia/pipelines/guided_denoiser.h"

namespace sinopia {

/// Finds the fastest way to generate [1,h,w,C] latents and their pictures within request.max_memory; without
/// a limit, what the request's tiling says. `tiles` is whether decoding is to be in tiles in any case. Throws
/// OutOfMemory naming what is needed at least.
MemoryPlan plan_memory(const Networks& networks, const GenerationRequest& request,
                       const GuidedDenoiser& denoiser, const Shape& latent, bool tiles);

}  // namespace sinopia
