#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/base/error.h"

namespace sinopia {

void CudaKernels::resize(const Tensor&, ResizeFilter, bool, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] resize is not there yet");
}

}  // namespace sinopia
