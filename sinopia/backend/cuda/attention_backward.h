#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "sinopia/tensor/tensor.h"

namespace sinopia::cuda {

/// The statistics of the queries come in whole tiles of as many; those of the kernels are no larger.
constexpr int kStatisticsTile = 128;

/// What the kernels of attention_backward work on; all tensors have one dtype.
struct AttentionGradient {
  DType dtype;
  const void *q, *k, *v, *y, *dy;  // [B,T,H*D] or [B,S,H*D]
  const void* bias;                // may be absent
  void *dq, *dk, *dv;
  int64_t bias_batch_step, bias_head_step;  // 0 where it is shared
  int64_t batch;
  int heads, T, S, D;
  float scale;
  bool causal;
  bool vectors;  // every run of 16 bytes within a row of a head starts at a multiple of 16 bytes

  // What the pass over the queries leaves for the one over the keys, f32 [B*H, T up to whole tiles]: a row's
  // weights are exp(score - highest) * factor, and delta is their mean of dp, the dot product of dy and y. On
  // the tensor cores highest is log2 of the sum of the exp(score), infinite for rows past the last and those
  // without a weight; and there is the largest |dy| of each tile of queries.
  float *highest, *factor, *delta, *largest;
  int64_t statistics_stride;
  int query_tiles;  // how many there are of `largest` for each head

  // Where the keys alone are too few to keep the device busy, blocks sum over a part of the queries each:
  // f32 [splits,2,B,S,H*D], of dk and dv.
  int splits, split_queries;
  float* parts;
};

/// A head's rows of a tensor.
template <class T>
struct HeadRows {
  T* data;
  int64_t stride;
  int rows;
};

template <class T>
__device__ inline HeadRows<T> head_rows(T* x, int rows, const AttentionGradient& p, int64_t head) {
  const int64_t stride = static_cast<int64_t>(p.heads) * p.D;
  return {x + head / p.heads * rows * stride + head % p.heads * p.D, stride, rows};
}

/// Where a head's bias [T,S] starts; null if there is none.
template <class T>
__device__ inline const T* head_bias(const AttentionGradient& p, int64_t head) {
  if (!p.bias) return nullptr;
  return static_cast<const T*>(p.bias) + head / p.heads * p.bias_batch_step +
         head % p.heads * p.bias_head_step;
}

/// The queries that a block of keys goes over.
struct QueryRange {
  int begin, end;
};
__device__ inline QueryRange query_range(const AttentionGradient& p, int first_key) {
  const int begin = static_cast<int>(blockIdx.z) * p.split_queries, end = begin + p.split_queries;
  return {p.causal && first_key > begin ? first_key : begin, end < p.T ? end : p.T};
}

/// A head's rows of this block's part of dk (0) or dv (1).
__device__ inline HeadRows<float> part_rows(const AttentionGradient& p, int which, int64_t head) {
  const int64_t count = p.batch * p.S * p.heads * p.D;
  return head_rows(p.parts + (2 * static_cast<int64_t>(blockIdx.z) + which) * count, p.S, p, head);
}

/// Decides on splits, given how many blocks one split has and how many the device has room for; the parts'
/// memory, if any. Then add_parts gives dk and dv.
Tensor split_queries(AttentionGradient& p, int64_t blocks, int64_t room);
void add_parts(const AttentionGradient& p);

/// For any dtype and head size, on the f32 units.
void attention_backward_simt(const AttentionGradient& p);
/// For f16 and bf16 and scales above 0, on the tensor cores. False, and nothing done, for heads that are too
/// wide for the device.
bool attention_backward_mma(const AttentionGradient& p);
bool attention_backward_mma_wide(const AttentionGradient& p);  // heads of more than 96 channels

}  // namespace sinopia::cuda
