#pragma once

#include <cstdint>

#include "sinopia/tensor/dtype.h"

namespace sinopia::cuda {

/// For Product: rows, or matrices of a batch, that follow each other without a gap.
inline constexpr int64_t kDense = -1;

/// y = alpha a b + bias + add for row-major matrices on the current device: a [batch,m,k], b [batch,k,n],
/// bias [n], y and add [batch,m,n].
struct Product {
  int64_t batch = 1, m = 0, n = 0, k = 0;
  DType dtype = DType::F32;    ///< of a and b: f32, f16 or bf16
  DType y_dtype = DType::F32;  ///< of y, bias and add: that of a and b, or f32
  const void* a = nullptr;
  const void* b = nullptr;
  const void* bias = nullptr;  ///< may be absent; at a multiple of 16 bytes
  const void* add = nullptr;   ///< may be absent, may be y
  void* y = nullptr;
  bool a_is_km = false, b_is_nk = false;  ///< the matrix lies transposed
  float alpha = 1;
  bool gelu_tanh = false;  ///< of the sum, before it is rounded
  /// Elements from one row as it lies to the next, and from one matrix of the batch to the next (0: all of
  /// the batch use the same one); those of add are those of y.
  int64_t a_row = kDense, b_row = kDense, y_row = kDense;
  int64_t a_batch = kDense, b_batch = kDense, y_batch = kDense;
};

/// Queues the product; sums are f32, of f32 factors too, and the result is rounded once. False if the library
/// has no algorithm for it, which happens only with bias, add or gelu_tanh; y may then hold anything.
/// All but the bias may be aligned as its elements only; multiples of 16 bytes are faster, rows included. The
/// GELU is quick rather than exact: off by up to some 2^-11 |x|.
bool multiply(const Product& product);

/// Makes the current device's handle now rather than with its first product: while a graph is recorded the
/// library must not do that.
void prepare_products();

/// Whether the factors of f32 products may be rounded to 11 bits, as tensor cores take them: some eight times
/// as fast, each product off by up to 2^-10. Off at first; holds for this process.
void set_tf32(bool on);
bool tf32();

}  // namespace sinopia::cuda
