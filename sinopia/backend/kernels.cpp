#include "sinopia/backend/kernels.h"

namespace sinopia {

Kernels& kernels(Device device) { return device.is_cpu() ? cpu_kernels() : cuda_kernels(); }

}  // namespace sinopia
