#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "sinopia/backend/matmul_precision.h"
#include "sinopia/tensor/dtype.h"

namespace sinopia {

/// What is missing here for products in this precision, as the end of a sentence; empty if nothing is.
std::string_view onednn_needs(MatmulPrecision precision);

/// y [M,N] = x [M,K] * w [N,K]^T with fixed weights, for any M up to what it was made for; y's rows are
/// y_step elements apart. Runs on the calling thread alone. Thread-safe.
using WeightProduct = std::function<void(const void* x, int64_t M, void* y)>;

/// Lays out w, which is not needed afterwards, for products with up to `rows` rows. x and w are of `dtype`:
/// BF16 or F32 with sums and y in f32, or I8 with i32, which is exact where Int8 needs nothing, and elsewhere
/// as long as weights are within -63 to 63. F32 and I8 work on any machine. Throws Backend if oneDNN fails,
/// Unsupported in a build without it.
WeightProduct onednn_product(DType dtype, const void* w, int64_t N, int64_t K, int64_t rows, int64_t y_step);

}  // namespace sinopia
