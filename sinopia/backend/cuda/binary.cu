#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/base/error.h"

namespace sinopia {

void CudaKernels::binary(BinaryOp, const Tensor&, const Tensor&, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] binary is not there yet");
}

}  // namespace sinopia
