#pragma once

#include <cstddef>
#include <functional>

namespace sinopia {

/// The most bytes that the tensors of `work` on the CPU will hold at once, told without doing it: kernels
/// return at once, memory is asked for but never touched. `work` runs on the calling thread and sees
/// tensors of zeros and all_finite() true; nothing that it makes may outlive it. What kernels take for
/// themselves while they run is not counted. Throws what `work` throws.
size_t planned_peak(const std::function<void()>& work);

}  // namespace sinopia
