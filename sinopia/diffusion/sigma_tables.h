#pragma once

#include <span>

namespace sinopia {

/// Sabour et al. 2024, "Align Your Steps": the optimised levels of 10 steps of Stable Diffusion 1 and SDXL,
/// [11].
std::span<const double> align_your_steps_table(bool sdxl);

/// Chen et al. 2024, "On the Trajectory Regularity of ODE-based Diffusion Sampling" (GITS), coefficient 1.20
/// on Stable Diffusion 1: the levels of `steps` steps, [steps+1]. steps in [2,20].
std::span<const double> gits_table(int steps);

}  // namespace sinopia
