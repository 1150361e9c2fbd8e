#pragma once

#include "sinopia/backend/kernels.h"

namespace sinopia {

/// How the rows of an implicit matrix lie in a picture: row (n, oy, ox) holds the KH x KW x I patch of x
/// [N,H,W,I] that output pixel (oy, ox) sees, zeros where it hangs over the edge.
struct Patches {
  int64_t height, width, channels;
  int64_t out_height, out_width;
  int64_t kernel_height, kernel_width;
  int64_t stride, pad_top, pad_left;
};

/// y [M,N] = activation(alpha * x [M,K] * w [N,K]^T + bias [N] + add), all f32 but w. Sums are f32 in an
/// order that depends on M, N and K alone. x and w are read where they lie: nothing larger than a few blocks
/// is copied.
struct GemmProblem {
  int64_t m = 0, n = 0, k = 0;
  const float* x = nullptr;          ///< [M,K], or the picture of `patches`
  const Patches* patches = nullptr;  ///< if set, K = KH*KW*I
  const void* w = nullptr;           ///< [N,K], or [K,N] if w_is_kn
  DType w_dtype = DType::F32;        ///< F32, F16, BF16 or quantised, which is never [K,N]
  bool w_is_kn = false;
  bool x_is_km = false;                ///< x is [K,M]
  const Patches* w_patches = nullptr;  ///< if set, w is the f32 picture whose patches are the rows of [K,N]
  float alpha = 1;
  const float* bias = nullptr;  ///< [N], may be absent
  const float* add = nullptr;   ///< [M / rows_per_add, N], may be absent: row i takes add[i / rows_per_add]
  int64_t rows_per_add = 1;
  Activation activation = Activation::None;
  float* y = nullptr;
};

void gemm(const GemmProblem& problem);

/// Whether x or w has so few rows that tiles would be mostly empty, or laying out w would cost more than the
/// product.
bool is_narrow(const GemmProblem& problem);
/// The product of a narrow problem, by dot products along K.
void gemm_narrow(const GemmProblem& problem);

}  // namespace sinopia
