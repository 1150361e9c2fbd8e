#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/base/error.h"

namespace sinopia {

void CudaKernels::unary_backward(UnaryOp, const Tensor&, const Tensor&, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] unary_backward is not there yet");
}

void CudaKernels::clamp_backward(const Tensor&, float, float, const Tensor&, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] clamp_backward is not there yet");
}

void CudaKernels::geglu_backward(const Tensor&, const Tensor&, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] geglu_backward is not there yet");
}

void CudaKernels::softmax_backward(const Tensor&, const Tensor&, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] softmax_backward is not there yet");
}

void CudaKernels::sum_middle(const Tensor&, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] sum_middle is not there yet");
}

}  // namespace sinopia
