#pragma once

#include <string>

namespace sinopia::cuda {

/// Why the current device cannot run this build's kernels; empty if it can.
std::string kernel_obstacle();

}  // namespace sinopia::cuda
