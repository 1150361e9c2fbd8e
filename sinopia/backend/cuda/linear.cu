#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/base/error.h"

namespace sinopia {

void CudaKernels::linear(const Tensor&, const Tensor&, const Tensor&, const Tensor&, Activation, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] linear is not there yet");
}

}  // namespace sinopia
