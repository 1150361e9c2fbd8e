#include <algorithm>

#include "sinopia/backend/conv2d_method.h"
#include "sinopia/backend/cpu/cast.h"
#include "sinopia/backend/cpu/conv2d_few_channels.h"
#include "sinopia/backend/cpu/cpu_kernels.h"
#include "sinopia/backend/cpu/rounded_gemm.h"
#include "sinopia/backend/cpu/winograd.h"

namespace sinopia {
namespace {

Conv2dMethod choose_method(const GemmProblem& p, const Conv2dOptions& options) {
  const bool suits =
      p.patches && p.patches->kernel_height == 3 && p.patches->kernel_width == 3 && options.stride == 1;
  if (!suits) return Conv2dMethod::Direct;
  return choose_conv2d_method(options.method, {direct_cost(p), winograd_cost(p, 2), winograd_cost(p, 4)});
}

}  // namespace

void CpuKernels::conv2d(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& add,
                        const Conv2dOptions& options, Activation activation, Tensor& y) {
  const Tensor wide_bias = widened(bias);
  const Patches patches{.height = x.dim(1),
                        .width = x.dim(2),
                        .channels = x.dim(3),
                        .out_height = y.dim(1),
                        .out_width = y.dim(2),
                        .kernel_height = w.dim(2),
                        .kernel_width = w.dim(3),
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
  const Conv2dMethod method = choose_method(p, options);
  if (w.dim(2) * w.dim(3) > 1) count_conv2d(method);
  if (method == Conv2dMethod::Winograd2) return winograd(p, 2);
  if (method == Conv2dMethod::Winograd4) return winograd(p, 4);
  if (p.patches && patches.channels < kFewChannels) return conv2d_few_channels(p);
  // The rows of the implicit matrix are patches of neighbouring channels, and so must the weights be.
  Tensor by_pixel;
  if (w.dim(2) * w.dim(3) > 1) {
    by_pixel = Tensor::empty({w.dim(0), w.dim(2), w.dim(3), w.dim(1)}, w.dtype());
    const int axes[] = {0, 2, 3, 1};
    permute(w, axes, by_pixel);
    p.w = by_pixel.raw();
  }
  gemm_of_weights(x, w, p);
}

}  // namespace sinopia
