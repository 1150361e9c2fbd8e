#include "sinopia/tensor/dtype.h"

#include "sinopia/base/error.h"

namespace sinopia {

bool is_quantised(DType dtype) { return block_elements(dtype) > 1; }

int64_t block_elements(DType dtype) {
  switch (dtype) {
    case DType::Q8_0:
    case DType::Q4_0:
      return 32;
    case DType::Q6_K:
    case DType::Q5_K:
    case DType::Q4_K:
      return 256;
    default:
      return 1;
  }
}

size_t size_of(DType dtype) {
  SINOPIA_CHECK(!is_quantised(dtype), InvalidArgument, "[dtype] elements of {} have no bytes of their own",
                to_string(dtype));
  return block_bytes(dtype);
}

size_t block_bytes(DType dtype) {
  switch (dtype) {
    case DType::Q8_0:
      return 34;
    case DType::Q6_K:
      return 210;
    case DType::Q5_K:
      return 176;
    case DType::Q4_K:
      return 144;
    case DType::Q4_0:
      return 18;
    case DType::F64:
    case DType::I64:
      return 8;
    case DType::F32:
    case DType::I32:
      return 4;
    case DType::F16:
    case DType::BF16:
    case DType::I16:
      return 2;
    case DType::I8:
    case DType::U8:
    case DType::Bool:
      return 1;
  }
  return 0;
}

const char* to_string(DType dtype) {
  switch (dtype) {
    case DType::F32:
      return "f32";
    case DType::F16:
      return "f16";
    case DType::BF16:
      return "bf16";
    case DType::F64:
      return "f64";
    case DType::I8:
      return "i8";
    case DType::U8:
      return "u8";
    case DType::I16:
      return "i16";
    case DType::I32:
      return "i32";
    case DType::I64:
      return "i64";
    case DType::Bool:
      return "bool";
    case DType::Q8_0:
      return "q8_0";
    case DType::Q6_K:
      return "q6_K";
    case DType::Q5_K:
      return "q5_K";
    case DType::Q4_K:
      return "q4_K";
    case DType::Q4_0:
      return "q4_0";
  }
  return "unknown";
}

}  // namespace sinopia
