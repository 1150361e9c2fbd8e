#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/base/error.h"

namespace sinopia {

void CudaKernels::attention(const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                            const AttentionOptions&, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] attention is not there yet");
}

}  // namespace sinopia
