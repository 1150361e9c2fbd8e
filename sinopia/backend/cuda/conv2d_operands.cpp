#include "sinopia/backend/cuda/conv2d_operands.h"

#include "sinopia/backend/cuda/conv2d_ending.h"
#include "sinopia/backend/cuda/runtime.h"

namespace sinopia::cuda {
namespace {

void copy(const Tensor& from, Tensor& to) {
  check(cudaMemcpyAsync(to.raw(), from.raw(), from.bytes(), cudaMemcpyDeviceToDevice, stream()), "copy");
}

}  // namespace

bool is_pointwise(const Shape& x, const Shape& w, const Conv2dOptions& options, const Shape& y) {
  return w.dim(2) == 1 && w.dim(3) == 1 && options.stride == 1 && y.dim(1) == x.dim(1) &&
         y.dim(2) == x.dim(2);
}

bool is_aligned(const Tensor& x) { return reinterpret_cast<uintptr_t>(x.raw()) % kConvolutionAlignment == 0; }

Aligned::Aligned(const Tensor& x) : tensor_(is_aligned(x) ? x : empty_like(x)) {
  if (tensor_.storage() != x.storage()) copy(x, tensor_);
}

AlignedResult::AlignedResult(Tensor& y) : y_(y), tensor_(is_aligned(y) ? y : empty_like(y)) {}

void AlignedResult::finish() {
  if (tensor_.storage() != y_.storage()) copy(tensor_, y_);
}

Convolution without_padding(const Convolution& problem) {
  Convolution p = problem;
  p.H += p.before[0] + p.after[0];
  p.W += p.before[1] + p.after[1];
  p.before = p.after = {};
  return p;
}

Tensor with_zeros_around(const Tensor& x, const Convolution& problem) {
  const Convolution p = without_padding(problem);
  if (p == problem) return {};
  Tensor result = Tensor::empty({p.N, p.H, p.W, p.I}, x.dtype(), x.device());
  cut_images(x, -problem.before[0], -problem.before[1], result);
  return result;
}

}  // namespace sinopia::cuda
