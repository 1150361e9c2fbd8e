#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace sinopia {

/// How linear layers and 1x1 convolutions multiply: as they come, or with both factors rounded to bfloat16
/// and sums in f32, which machines with instructions for that do several times as fast. A sum of products is
/// then off by at most 2^-7 of the sum of their magnitudes, and by some 0.2 % of what such sums usually are
/// on random data. Products of 8 rows or fewer, 3x3 convolutions and attention stay in f32.
enum class MatmulPrecision { F32, BF16 };

/// "f32" and "bf16", in the order of MatmulPrecision.
inline constexpr std::array<std::string_view, 2> kMatmulPrecisionNames{"f32", "bf16"};

/// Holds for this process from now on. Throws Unsupported, naming what is missing, if this build or this
/// machine cannot.
void set_matmul_precision(MatmulPrecision precision);
MatmulPrecision matmul_precision();

/// Products that this process has rounded so far. Thread-safe.
int64_t rounded_matmuls();
void count_rounded_matmul();

}  // namespace sinopia
