#pragma once

#include <string_view>

#include "sinopia/backend/kernels.h"
#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// Every function of one tensor, element by element, comes through here; `name` is for errors.
Tensor unary(std::string_view name, UnaryOp op, const Tensor& x);

}  // namespace sinopia
