#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/base/error.h"

namespace sinopia {

void CudaKernels::conv2d_backward_input(const Tensor&, const Tensor&, const Conv2dOptions&, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] conv2d_backward_input is not there yet");
}

void CudaKernels::conv2d_backward_weight(const Tensor&, const Tensor&, const Conv2dOptions&, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] conv2d_backward_weight is not there yet");
}

}  // namespace sinopia
