#include "sinopia/backend/kernels.h"

#include "sinopia/backend/planning.h"

namespace sinopia {

Kernels& kernels(Device device) {
  if (!device.is_cpu()) return cuda_kernels(device.index);
  Kernels* planning = planning_kernels();
  return planning ? *planning : cpu_kernels();
}

}  // namespace sinopia
