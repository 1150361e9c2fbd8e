#pragma once

#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace sinopia::cuda {

/// What attention is asked for: y [B,T,H*D] = softmax(scale * q k^T + bias) v per head, with q [B,T,H*D] and
/// k, v [B,S,H*D], all of one type. S, and B, T, H and D are at least 1.
template <class T>
struct AttentionProblem {
  const T *q, *k, *v;
  const T* bias;                            ///< [.., .., T, S], may be absent
  int64_t bias_batch_step, bias_head_step;  ///< 0 where it is shared
  int64_t batch;
  int heads, queries, keys, columns;  ///< H, T, S and D
  float scale;                        ///< of the scores, times log2 e: the softmax is taken in powers of two
  bool causal;
  T* y;
};

/// D up to kMostAttentionColumns.
void attention(const AttentionProblem<float>& problem);
void attention(const AttentionProblem<__half>& problem);
void attention(const AttentionProblem<__nv_bfloat16>& problem);

constexpr int kMostAttentionColumns = 512;

}  // namespace sinopia::cuda
