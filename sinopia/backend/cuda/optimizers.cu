#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/base/error.h"

namespace sinopia {

void CudaKernels::add_scaled(const Tensor&, float, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] add_scaled is not there yet");
}

void CudaKernels::blend(const Tensor&, float, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] blend is not there yet");
}

void CudaKernels::adamw(const OptimizerStep&, const AdamwConstants&, const Tensor&, Tensor&, Tensor&, Tensor&,
                        Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] adamw is not there yet");
}

void CudaKernels::lion(const OptimizerStep&, const LionConstants&, const Tensor&, Tensor&, Tensor&, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] lion is not there yet");
}

}  // namespace sinopia
