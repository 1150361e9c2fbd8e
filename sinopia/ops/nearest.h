#pragma once

#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// Which row of table [K,D] is nearest to each x [..,D] by squared distance, the first of equally near ones:
/// i32 [..]. Rows of x with NaN give 0. The table is f32, f16 or bf16. No gradient. Throws InvalidArgument
/// for a table without rows or of another width.
Tensor nearest_rows(const Tensor& x, const Tensor& table);

/// The elements of `value`; what reaches them goes on to `through`, of the same shape, as if they were its
/// own (the straight-through estimator, Bengio et al. 2013).
Tensor straight_through(const Tensor& value, const Tensor& through);

}  // namespace sinopia
