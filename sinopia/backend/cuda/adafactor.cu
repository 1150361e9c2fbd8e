#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/base/error.h"

namespace sinopia {

void CudaKernels::adafactor(const OptimizerStep&, const AdafactorConstants&, const Tensor&, Tensor&, Tensor&,
                            Tensor&, Tensor&, Tensor&) {
  fail(ErrorKind::Unsupported, "[cuda] adafactor is not there yet");
}

}  // namespace sinopia
