#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/base/error.h"

namespace sinopia {

void CudaKernels::layer_norm_backward(const Tensor&, const Tensor&, float, const Tensor&, Tensor&, Tensor&,
                                      Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] layer_norm_backward is not there yet");
}

void CudaKernels::rms_norm_backward(const Tensor&, const Tensor&, float, const Tensor&, Tensor&, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] rms_norm_backward is not there yet");
}

void CudaKernels::group_norm_backward(const Tensor&, int, const Tensor&, float, const Tensor&, Tensor&,
                                      Tensor&, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] group_norm_backward is not there yet");
}

}  // namespace sinopia
