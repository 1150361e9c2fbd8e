#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/base/error.h"

namespace sinopia {

void CudaKernels::conv2d(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Conv2dOptions&,
                         Activation, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] conv2d is not there yet");
}

}  // namespace sinopia
