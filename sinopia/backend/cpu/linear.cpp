#include "sinopia/backend/cpu/cast.h"
#include "sinopia/backend/cpu/cpu_kernels.h"
#include "sinopia/backend/cpu/rounded_gemm.h"

namespace sinopia {

void CpuKernels::linear(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& add,
                        Activation activation, Tensor& y) {
  const Tensor wide_bias = widened(bias);
  GemmProblem p;
  p.n = w.dim(0);
  p.k = w.dim(1);
  p.m = p.n > 0 ? y.numel() / p.n : 0;
  p.x = x.data<float>();
  p.w = w.raw();
  p.w_dtype = w.dtype();
  p.bias = wide_bias ? wide_bias.data<float>() : nullptr;
  p.add = add ? add.data<float>() : nullptr;
  p.activation = activation;
  p.y = y.data<float>();
  gemm_of_weights(x, w, p);
}

}  // namespace sinopia
