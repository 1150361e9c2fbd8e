#pragma once

#include "sinopia/train/trainers/conditions/condition.h"

namespace sinopia {

/// Of denoisers with three channels besides the latent's.
bool wants_low_resolution(const ConditionContext& context);
/// The picture spoilt and brought to the latent's size (see data/degradation.h). With a table of class
/// embeddings it is noised to a level drawn from it, which the denoiser is told, as the x4 upscaler of Stable
/// Diffusion is; else it comes as it is, as in latent diffusion.
std::unique_ptr<Condition> make_low_resolution(const ConditionContext& context);

}  // namespace sinopia
