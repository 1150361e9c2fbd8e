#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "sinopia/tensor/dtype.h"

namespace sinopia {

/// What is missing here for products in bfloat16, as the end of a sentence; empty if nothing is.
std::string_view onednn_bf16_needs();

/// y [M,N] = x [M,K] * w [N,K]^T with fixed weights, for any M up to what it was made for; y's rows are
/// y_step floats apart. Runs on the calling thread alone. Thread-safe.
using WeightProduct = std::function<void(const void* x, int64_t M, float* y)>;

/// Lays out w, which is not needed afterwards, for products with up to `rows` rows. x and w are of `dtype`:
/// BF16, or F32, which any machine multiplies; sums are f32. Throws Backend if oneDNN fails, Unsupported in a
/// build without it.
WeightProduct onednn_product(DType dtype, const void* w, int64_t N, int64_t K, int64_t rows, int64_t y_step);

}  // namespace sinopia
