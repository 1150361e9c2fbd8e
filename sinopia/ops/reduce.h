#pragma once

#include "sinopia/tensor/tensor.h"

namespace sinopia {

struct Moments {
  Tensor mean;      ///< [N]
  Tensor variance;  ///< [N]
};

/// Mean and variance of each x[i]; the variance divides by n - correction (1 as torch.std does by default).
Moments moments(const Tensor& x, int correction = 1);

/// The one element of an f32 tensor. Throws InvalidArgument for other types and sizes.
double item(const Tensor& x);

/// Neither NaN nor infinity in x.
bool all_finite(const Tensor& x);

struct RowMax {
  Tensor value;  ///< f32 [..]
  Tensor place;  ///< i32 [..]
};

/// The largest element of each row of x [..,D] and where it is; the first of equal ones. Throws
/// InvalidArgument for rows without elements.
RowMax row_max(const Tensor& x);

/// x [B,T,C], group i32 [B,T] -> [B,count,C]: the mean of the rows of each group, 0 for a group without rows.
/// Throws InvalidArgument for a group outside [0,count).
Tensor group_mean(const Tensor& x, const Tensor& group, int64_t count);

}  // namespace sinopia
