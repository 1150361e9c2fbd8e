#pragma once

#include "sinopia/backend/cuda/cudnn_graph.h"

namespace sinopia::cuda {

/// Whether y is a matrix product of x's pixels and w.
bool is_pointwise(const Shape& x, const Shape& w, const Conv2dOptions& options, const Shape& y);

/// Whether x lies where cuDNN's fast kernels can read it; true if absent.
bool is_aligned(const Tensor& x);

/// x, or a copy of it that is aligned.
class Aligned {
 public:
  explicit Aligned(const Tensor& x);
  const Tensor& tensor() const { return tensor_; }

 private:
  Tensor tensor_;
};

/// y, or memory in its place that is aligned.
class AlignedResult {
 public:
  explicit AlignedResult(Tensor& y);
  Tensor& tensor() { return tensor_; }
  /// Copies to y what is not there yet.
  void finish();

 private:
  Tensor y_, tensor_;
};

/// x [N,H,W,I] with the problem's padding around it as zeros; absent if the problem has none.
Tensor with_zeros_around(const Tensor& x, const Convolution& problem);
/// The problem with x so padded.
Convolution without_padding(const Convolution& problem);

}  // namespace sinopia::cuda
