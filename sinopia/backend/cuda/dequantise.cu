#include "sinopia/backend/cuda/dequantise.h"

#include "sinopia/base/error.h"

namespace sinopia::cuda {

void dequantise(const Tensor&, Tensor&) { fail(ErrorKind::Unsupported, "[cuda] dequantise is not there yet"); }

}  // namespace sinopia::cuda
