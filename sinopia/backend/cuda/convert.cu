#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/base/error.h"

namespace sinopia {

void CudaKernels::convert(const Tensor&, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] convert is not there yet");
}

}  // namespace sinopia
