#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/base/error.h"

namespace sinopia {

void CudaKernels::permute(const Tensor&, std::span<const int>, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] permute is not there yet");
}

}  // namespace sinopia
