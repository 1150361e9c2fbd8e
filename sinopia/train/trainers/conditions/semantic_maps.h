#pragma once

#include "sinopia/train/trainers/conditions/condition.h"

namespace sinopia {

/// Of denoisers with channels for the classes of a semantic map.
bool wants_semantic_maps(const ConditionContext& context);
/// Each example's map, cut and mirrored as its picture is, as semantic_channels() has it.
std::unique_ptr<Condition> make_semantic_maps(const ConditionContext& context);

}  // namespace sinopia
