#include "sinopia/backend/cuda/cublaslt.h"
#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/base/error.h"

namespace sinopia {

void CudaKernels::matmul(const Tensor& a, const Tensor& b, Transpose transpose, float alpha, Tensor& y) {
  cuda::Product p;
  p.a_is_km = transpose == Transpose::Left;
  p.b_is_nk = transpose == Transpose::Right;
  p.batch = y.dim(0);
  p.m = y.dim(1);
  p.n = y.dim(2);
  p.k = a.dim(p.a_is_km ? 1 : 2);
  if (y.numel() > 0 && p.k == 0) return fill(y, 0);
  p.dtype = a.dtype();
  p.y_dtype = y.dtype();
  p.a = a.raw();
  p.b = b.raw();
  p.y = y.raw();
  p.alpha = alpha;
  SINOPIA_CHECK(cuda::multiply(p), Backend, "[cuda] cuBLASLt cannot multiply {} and {}", describe(a),
                describe(b));
}

}  // namespace sinopia
