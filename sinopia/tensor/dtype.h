#pragma once

#include <cstddef>
#include <cstdint>

#include "sinopia/base/half.h"

namespace sinopia {

/// Element types. Arithmetic is on F32 (CPU); F16 and BF16 are ways to store weights; I32 holds tokens. The
/// others occur in files and can be converted, not computed with.
enum class DType : uint8_t { F32, F16, BF16, F64, I8, U8, I16, I32, I64, Bool };

/// Bytes of one element.
size_t size_of(DType dtype);

/// "f32", "f16", "bf16", ...
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
