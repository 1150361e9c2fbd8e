#pragma once

#include "sinopia/backend/cpu/gemm.h"
#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// The product `problem` of activations x and weights w, which it points to, in the precision that was chosen
/// (matmul_precision.h).
void gemm_of_weights(const Tensor& x, const Tensor& w, const GemmProblem& problem);

/// The same with x and w rounded as their rows are held: as BF16, as I8 (matmul_precision.h), or to bfloat16
/// but held in F32, which gives the same numbers but for the order of the sums. F32 and I8 work on any
/// machine; where I8 is not offered, weights are rounded to half as many steps.
void rounded_gemm(const Tensor& x, const Tensor& w, const GemmProblem& problem, DType held);

}  // namespace sinopia
