#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/base/error.h"

namespace sinopia {

void CudaKernels::sum_rows(const Tensor&, const Tensor&, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] sum_rows is not there yet");
}

}  // namespace sinopia
