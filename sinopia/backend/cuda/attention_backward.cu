#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/base/error.h"

namespace sinopia {

void CudaKernels::attention_backward(const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                                     const AttentionOptions&, const Tensor&, const Tensor&, Tensor&, Tensor&,
                                     Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] attention_backward is not there yet");
}

}  // namespace sinopia
