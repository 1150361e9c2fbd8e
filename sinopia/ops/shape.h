#pragma once

#include <initializer_list>
#include <span>

#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// x in another dtype; x itself, shared, if it has that dtype already. Halves round to nearest even. Throws
/// InvalidArgument for what cannot be quantised: a last axis that is not a whole number of blocks, NaN,
/// infinity.
Tensor to_dtype(const Tensor& x, DType dtype);

/// x on another device; x itself, shared, if it is there already. Any dtype.
Tensor to_device(const Tensor& x, Device device);

/// Every element `value`.
Tensor full(const Shape& shape, float value, Device device = {});
inline Tensor zeros(const Shape& shape, Device device = {}) { return full(shape, 0.0f, device); }

/// Axis i of the result is axis axes[i] of x; a copy. Any dtype not quantised.
Tensor permute(const Tensor& x, std::span<const int> axes);
inline Tensor permute(const Tensor& x, std::initializer_list<int> axes) {
  return permute(x, std::span<const int>(axes.begin(), axes.size()));
}
/// [N,C,H,W] -> [N,H,W,C] and back; any dtype.
Tensor channels_last(const Tensor& x);
Tensor channels_first(const Tensor& x);

/// Joins tensors along an axis (negative: from the end). One tensor is returned as it is. Any dtype.
Tensor concat(std::span<const Tensor> xs, int axis);
inline Tensor concat(std::initializer_list<Tensor> xs, int axis) {
  return concat(std::span<const Tensor>(xs.begin(), xs.size()), axis);
}

/// Elements [begin,end) along an axis: a view for the first axis, else a copy (not quantised).
Tensor narrow(const Tensor& x, int axis, int64_t begin, int64_t end);

/// x [1,..] or [N,..] -> [count,..]: repeats a batch of one. Throws InvalidArgument for another batch size.
Tensor expand_batch(const Tensor& x, int64_t count);

}  // namespace sinopia
