#pragma once

#include <cstddef>
#include <cstdint>

#include "sinopia/base/half.h"

namespace sinopia {

/// Element types. Arithmetic is on F32 (CPU); F16 and BF16 are ways to store weights; I32 holds tokens. The
/// others occur in files and can be converted, not computed with. The last five are quantised matrices as
/// GGUF files have them, ggml's blocks byte for byte: neighbours along the last axis, which is a whole number
/// of blocks, share their scales. Products and embeddings read them; everything else refuses them.
enum class DType : uint8_t { F32, F16, BF16, F64, I8, U8, I16, I32, I64, Bool, Q8_0, Q6_K, Q5_K, Q4_K, Q4_0 };

/// Whether elements are stored in blocks and have no bytes of their own.
bool is_quantised(DType dtype);

/// Elements of a block; 1 where each stands alone.
int64_t block_elements(DType dtype);
/// Bytes of a block.
size_t block_bytes(DType dtype);

/// Bytes of one element. Throws InvalidArgument for a quantised dtype.
size_t size_of(DType dtype);

/// "f32", "f16", "bf16", .., "q8_0", "q6_K"
const char* to_string(DType dtype);

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::F32;
};
template <>
struct DTypeOf<Half> {
  static constexpr DType value = DType::F16;
};
template <>
struct DTypeOf<BFloat16> {
  static constexpr DType value = DType::BF16;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::F64;
};
template <>
struct DTypeOf<int8_t> {
  static constexpr DType value = DType::I8;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::U8;
};
template <>
struct DTypeOf<int16_t> {
  static constexpr DType value = DType::I16;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::I32;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::I64;
};
template <>
struct DTypeOf<bool> {
  static constexpr DType value = DType::Bool;
};

}  // namespace sinopia
