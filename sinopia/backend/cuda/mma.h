#pragma once

#include <cstdint>
#include <type_traits>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "sinopia/backend/cuda/shared_address.h"

// Products of small matrices by a whole warp on the tensor cores (compute capability 8.0 on). A matrix is
// spread over the 32 lanes as a "fragment": registers of two neighbouring T each, the one with the lower
// index in the lower half. With g = lane / 4 and i = lane % 4, a lane holds of
//
//   a [16,16]      a[0] = (row g, columns 2i, 2i + 1)    a[2] = (row g, columns 2i + 8, 2i + 9)
//                  a[1] = (row g + 8, the same)          a[3] = (row g + 8, the same)
//   b [16,8]       b0 = (rows 2i, 2i + 1, column g)      b1 = (rows 2i + 8, 2i + 9, column g)
//   c [16,8], f32  c[0], c[1] = (row g, columns 2i, 2i + 1)
//                  c[2], c[3] = (row g + 8, the same)
//
// So two neighbouring c, rounded to T and packed, are an a: a[0] and a[1] from the first, a[2] and a[3] from
// the second.
//
// load_matrices reads 8x8 matrices of T, four at once or two: lane 8m + r (of the first 16 for two) says
// where row r of matrix m begins, a multiple of 16 bytes, and to[m] is then (row g, columns 2i, 2i + 1) of
// matrix m, or with load_matrices_transposed (rows 2i, 2i + 1, column g). It has no bank conflicts if the
// eight rows of a matrix lie in different 16 byte columns of 128 bytes. Of x in shared memory, row by row,
// they give
//
//   a from x [16 rows, 16 columns]:
//       load_matrices, the lane's row lane % 16 and column lane / 16 * 8
//   a from x [16 columns of a, 16 rows of a], its transpose:
//       load_matrices_transposed, row lane % 8 + lane / 16 * 8, column lane / 8 % 2 * 8
//   b0, b1, and those of the eight columns that follow, from x [16 rows of b, 16 columns], as in p v:
//       load_matrices_transposed, row lane % 16, column lane / 16 * 8
//   b0, b1, and those of the eight columns that follow, from x [16 columns of b, 16 rows], as in q k^T:
//       load_matrices, row lane % 8 + lane / 16 * 8, column lane / 8 % 2 * 8

namespace sinopia::cuda {

/// c += a b, all products and sums in f32. T is __half or __nv_bfloat16.
template <class T>
__device__ inline void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  if constexpr (std::is_same_v<T, __half>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    static_assert(std::is_same_v<T, __nv_bfloat16>);
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

__device__ inline void load_matrices(uint32_t (&to)[4], SharedAddress row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(row)
               : "memory");
}
__device__ inline void load_matrices_transposed(uint32_t (&to)[4], SharedAddress row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(row)
               : "memory");
}
__device__ inline void load_matrices(uint32_t (&to)[2], SharedAddress row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(to[0]), "=r"(to[1])
               : "r"(row)
               : "memory");
}
__device__ inline void load_matrices_transposed(uint32_t (&to)[2], SharedAddress row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(to[0]), "=r"(to[1])
               : "r"(row)
               : "memory");
}

/// 2^x within 2 ulp; less than the smallest normal number is 0.
__device__ inline float exp2_flushed(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace sinopia::cuda
