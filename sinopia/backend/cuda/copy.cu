#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/base/error.h"

namespace sinopia {

void CudaKernels::fill(Tensor&, float) { fail(ErrorKind::Unsupported, "[cuda] fill is not there yet"); }

void CudaKernels::concat(std::span<const Tensor>, int, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] concat is not there yet");
}

void CudaKernels::narrow(const Tensor&, int, int64_t, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] narrow is not there yet");
}

void CudaKernels::gather_rows(const Tensor&, const Tensor&, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] gather_rows is not there yet");
}

}  // namespace sinopia
