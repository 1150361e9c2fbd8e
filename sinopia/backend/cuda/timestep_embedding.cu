#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/base/error.h"

namespace sinopia {

void CudaKernels::timestep_embedding(const Tensor&, bool, float, float, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] timestep_embedding is not there yet");
}

}  // namespace sinopia
