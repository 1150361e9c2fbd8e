#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace sinopia {

/// How linear layers multiply: as they come, or with rounded factors, which machines with instructions for
/// that do several times as fast. BF16: both factors rounded to bfloat16, sums in f32; 1x1 convolutions too.
/// A sum of products is off by at most 2^-7 of the sum of their magnitudes, by some 0.2 % of what such sums
/// usually are on random data. Int8: both factors as whole multiples, -127 to 127, of 1/127 of the largest
/// magnitude in their row (of x: a token; of w: an output), sums exact; some 1 % on random data, more where a
/// few elements stand out. A row with NaN or infinity gives NaN. Products of 8 rows or fewer, larger
/// convolutions and attention stay in f32.
/// TF32: what a GPU computes in f32 has factors rounded to 11 bits, convolutions and gradients too; the CPU
/// takes it for F32.
enum class MatmulPrecision { F32, BF16, Int8, TF32 };

/// In the order of MatmulPrecision.
inline constexpr std::array<std::string_view, 4> kMatmulPrecisionNames{"f32", "bf16", "int8", "tf32"};

/// Holds for this process from now on. Throws Unsupported, naming what is missing, if this build or this
/// machine cannot.
void set_matmul_precision(MatmulPrecision precision);
MatmulPrecision matmul_precision();

/// Products that this process has rounded so far. Thread-safe.
int64_t rounded_matmuls();
void count_rounded_matmul();

}  // namespace sinopia
