#include "sinopia/backend/cuda/cuda_kernels.h"

#include "sinopia/backend/cuda/runtime.h"

namespace sinopia {

Kernels& cuda_kernels(int index) {
  static CudaKernels instance;
  cuda::use_device(index);
  return instance;
}

}  // namespace sinopia
