#pragma once

#include "sinopia/backend/cpu/gemm.h"
#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// The product `problem` of activations x and weights w, which it points to, in the precision that was chosen
/// (matmul_precision.h).
void gemm_of_weights(const Tensor& x, const Tensor& w, const GemmProblem& problem);

/// The same with x and w rounded to bfloat16, then multiplied as bfloat16, or as `held` F32: the same numbers
/// but for the order of the sums, on any machine for which oneDNN was built.
void rounded_gemm(const Tensor& x, const Tensor& w, const GemmProblem& problem, DType held = DType::BF16);

}  // namespace sinopia
