#pragma once

#include "sinopia/train/trainers/conditions/condition.h"

namespace sinopia {

/// Of denoisers with channels for a mask and a latent besides their own.
bool wants_inpainting(const ConditionContext& context);
/// Masks as draw_inpainting_mask draws them, 1 where the picture is to be painted anew; there the known
/// picture is 0.
std::unique_ptr<Condition> make_inpainting(const ConditionContext& context);

}  // namespace sinopia
