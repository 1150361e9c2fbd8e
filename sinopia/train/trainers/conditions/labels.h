#pragma once

#include "sinopia/train/trainers/conditions/condition.h"

namespace sinopia {

/// Of denoisers with a table of class embeddings that nothing else takes.
bool wants_labels(const ConditionContext& context);
/// The class of an example as a row of the table, added to the time embedding. As often as captions are, it
/// is left out for guidance: the table's last row stands for that. Throws InvalidArgument for a table too
/// small, and for examples without a class or of one that the table does not know.
std::unique_ptr<Condition> make_labels(const ConditionContext& context);

}  // namespace sinopia
