#include "sinopia/backend/cuda/conv2d_ending.h"
#include "sinopia/backend/cuda/conv2d_operands.h"
#include "sinopia/backend/cuda/conv2d_plans.h"
#include "sinopia/backend/cuda/cublaslt.h"
#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/backend/cuda/packed_weights.h"

namespace sinopia {
namespace {

using namespace cuda;

[[noreturn]] void refuse(const char* what, const Tensor& x, const Tensor& w, const Tensor& y) {
  fail(ErrorKind::Unsupported, "[cuda] cuDNN has no gradient of a convolution's {} for {}, {} and {}", what,
       describe(x), describe(w), describe(y));
}

}  // namespace

void CudaKernels::conv2d_backward_input(const Tensor& dy, const Tensor& w, const Conv2dOptions& options,
                                        Tensor& dx) {
  if (dx.numel() == 0) return;
  if (dy.numel() == 0) return fill(dx, 0);
  const Tensor packed = packed_weights::of(w, dy.dtype());
  if (is_pointwise(dx.shape(), w.shape(), options, dy.shape()) && multiply({.m = dy.numel() / w.dim(0),
                                                                            .n = w.dim(1),
                                                                            .k = w.dim(0),
                                                                            .dtype = dy.dtype(),
                                                                            .y_dtype = dx.dtype(),
                                                                            .a = dy.raw(),
                                                                            .b = packed.raw(),
                                                                            .y = dx.raw()}))
    return;
  const Aligned image(dy), weights(packed);
  const Convolution problem =
      convolution_of(ConvolutionKind::BackwardData, dx.shape(), w.shape(), dy.shape(), options, dy.dtype());
  const auto run = [&](const Convolution& p, const Tensor& to) {
    return run_convolution(p, {.x = to.raw(), .w = weights.tensor().raw(), .y = image.tensor().raw()});
  };
  AlignedResult result(dx);
  if (!run(problem, result.tensor())) {
    // Padding is beyond cuDNN: with the gradients of the zeros around x, which are then left out.
    const Convolution p = without_padding(problem);
    const Tensor around = Tensor::empty({p.N, p.H, p.W, p.I}, dx.dtype(), dx.device());
    if (p == problem || !run(p, around)) refuse("input", dx, w, dy);
    cut_images(around, problem.before[0], problem.before[1], result.tensor());
  }
  result.finish();
}

void CudaKernels::conv2d_backward_weight(const Tensor& x, const Tensor& dy, const Conv2dOptions& options,
                                         Tensor& dw) {
  if (dw.numel() == 0) return;
  if (dy.numel() == 0 || x.numel() == 0) return fill(dw, 0);
  if (is_pointwise(x.shape(), dw.shape(), options, dy.shape()) && multiply({.m = dw.dim(0),
                                                                            .n = dw.dim(1),
                                                                            .k = dy.numel() / dw.dim(0),
                                                                            .dtype = x.dtype(),
                                                                            .y_dtype = dw.dtype(),
                                                                            .a = dy.raw(),
                                                                            .b = x.raw(),
                                                                            .y = dw.raw(),
                                                                            .a_is_km = true}))
    return;
  const Aligned image(x), gradient(dy);
  const bool same_bytes =
      dw.dtype() == x.dtype() && (dw.dim(2) * dw.dim(3) == 1 || dw.dim(1) == 1) && is_aligned(dw);
  Tensor packed =
      same_bytes ? dw : Tensor::empty({dw.dim(0), dw.dim(2), dw.dim(3), dw.dim(1)}, x.dtype(), x.device());
  const Convolution problem =
      convolution_of(ConvolutionKind::BackwardFilter, x.shape(), dw.shape(), dy.shape(), options, x.dtype());
  const auto run = [&](const Convolution& p, const Tensor& from) {
    return run_convolution(p, {.x = from.raw(), .w = packed.raw(), .y = gradient.tensor().raw()});
  };
  if (!run(problem, image.tensor())) {
    const Tensor around = with_zeros_around(image.tensor(), problem);
    if (!around || !run(without_padding(problem), around)) refuse("weights", x, dw, dy);
  }
  if (!same_bytes) unpack_weights(packed, dw);
}

}  // namespace sinopia
