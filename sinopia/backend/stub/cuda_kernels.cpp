#include "sinopia/backend/kernels.h"
#include "sinopia/base/error.h"

namespace sinopia {

Kernels& cuda_kernels() { fail(ErrorKind::Unsupported, "[backend] this build has no CUDA; use the CPU"); }

}  // namespace sinopia
