#include "sinopia/backend/cpu/cast.h"
#include "sinopia/backend/cpu/cpu_kernels.h"
#include "sinopia/backend/cpu/gemm.h"

namespace sinopia {

void CpuKernels::conv2d(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& add,
                        const Conv2dOptions& options, Activation activation, Tensor& y) {
  const Tensor wide_bias = widened(bias);
  const Patches patches{.height = x.dim(1),
                        .width = x.dim(2),
                        .channels = x.dim(3),
                        .out_height = y.dim(1),
                        .out_width = y.dim(2),
                        .kernel_height = w.dim(1),
                        .kernel_width = w.dim(2),
                        .stride = options.stride,
                        .pad_top = options.padding.top,
                        .pad_left = options.padding.left};
  const int64_t pixels = y.dim(1) * y.dim(2);
  const bool pointwise = patches.kernel_height == 1 && patches.kernel_width == 1 && options.stride == 1 &&
                         y.dim(1) == x.dim(1) && y.dim(2) == x.dim(2);
  GemmProblem p;
  p.m = y.dim(0) * pixels;
  p.n = w.dim(0);
  p.k = w.dim(1) * w.dim(2) * w.dim(3);
  p.x = x.data<float>();
  p.patches = pointwise ? nullptr : &patches;
  p.w = w.raw();
  p.w_dtype = w.dtype();
  p.bias = wide_bias ? wide_bias.data<float>() : nullptr;
  p.add = add ? add.data<float>() : nullptr;
  p.rows_per_add = add && add.rank() == 2 ? pixels : 1;
  p.activation = activation;
  p.y = y.data<float>();
  gemm(p);
}

}  // namespace sinopia
