#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/base/error.h"

namespace sinopia {

void CudaKernels::moments(const Tensor&, int, Tensor&, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] moments is not there yet");
}

double CudaKernels::sum_of_squares(const Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] sum_of_squares is not there yet");
}

bool CudaKernels::all_finite(const Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] all_finite is not there yet");
}

void CudaKernels::row_max(const Tensor&, Tensor&, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] row_max is not there yet");
}

void CudaKernels::group_mean(const Tensor&, const Tensor&, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] group_mean is not there yet");
}

}  // namespace sinopia
