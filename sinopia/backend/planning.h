#pragma once

#include "sinopia/backend/kernels.h"

namespace sinopia {

/// Kernels that do nothing, while this thread is inside planned_peak(); nullptr otherwise.
Kernels* planning_kernels();

}  // namespace sinopia
