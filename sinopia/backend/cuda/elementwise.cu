#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/base/error.h"

namespace sinopia {

void CudaKernels::unary(UnaryOp, const Tensor&, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] unary is not there yet");
}

void CudaKernels::affine(const Tensor&, float, float, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] affine is not there yet");
}

void CudaKernels::clamp(const Tensor&, float, float, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] clamp is not there yet");
}

void CudaKernels::geglu(const Tensor&, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] geglu is not there yet");
}

}  // namespace sinopia
