#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/base/error.h"
#include "sinopia/backend/cuda/runtime.h"
#include "sinopia/backend/cuda/elements.h"
#include "sinopia/backend/cuda/reductions.h"

namespace sinopia {
namespace cuda {
namespace {
template <class T>
__global__ void softmax_rows(const T* x, int64_t D, T* y) {
  const T* row = x + blockIdx.x * D;
  float m = -INFINITY;
  for (int64_t i = threadIdx.x; i < D; i += blockDim.x) m = Larger{}(m, widen(row[i]));
  m = block_reduce<Larger>(m, -INFINITY);
  float s = 0;
  for (int64_t i = threadIdx.x; i < D; i += blockDim.x) s += expf(widen(row[i]) - m);
  s = block_reduce<Plus>(s, 0.0f);
  for (int64_t i = threadIdx.x; i < D; i += blockDim.x) y[blockIdx.x * D + i] = narrow_to<T>(expf(widen(row[i]) - m) / s);
}
}  // namespace
}  // namespace cuda
void CudaKernels::softmax(const Tensor& x, Tensor& y) {
  using namespace cuda;
  for_float(x.dtype(), [&](auto t) {
    using T = decltype(t);
    const int64_t D = x.dim(-1);
    launch(softmax_rows<T>, dim3(static_cast<unsigned>(x.numel() / D)), dim3(128), 0, static_cast<const T*>(x.raw()), D, static_cast<T*>(y.raw()));
  });
}

}  // namespace sinopia
