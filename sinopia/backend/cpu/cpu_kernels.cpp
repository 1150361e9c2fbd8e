#include "sinopia/backend/cpu/cpu_kernels.h"

namespace sinopia {

Kernels& cpu_kernels() {
  static CpuKernels instance;
  return instance;
}

}  // namespace sinopia
