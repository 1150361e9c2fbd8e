#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/base/error.h"

namespace sinopia {

void CudaKernels::matmul(const Tensor&, const Tensor&, Transpose, float, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] matmul is not there yet");
}

}  // namespace sinopia
