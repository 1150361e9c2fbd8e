#include "sinopia/backend/cuda/attention_backward_mma.h"

namespace sinopia::cuda {

bool attention_backward_mma(const AttentionGradient& p) {
  using attention_mma::Plan;
  using attention_mma::try_both;
  if (p.D > 96) return attention_backward_mma_wide(p);
  if (p.D <= 32) return try_both<Plan<32, 32, 2, 32, 2, 2>, Plan<32, 32, 2, 32, 2, 2>>(p);
  if (p.D <= 48) return try_both<Plan<48, 48, 2, 32, 2, 2>, Plan<48, 48, 2, 32, 2, 2>>(p);
  if (p.D <= 64) return try_both<Plan<64, 64, 2, 32, 2, 2>, Plan<64, 64, 2, 32, 2, 2>>(p);
  if (p.D <= 80) return try_both<Plan<80, 80, 1, 64, 2, 2>, Plan<80, 80, 1, 64, 2, 2>>(p);
  return try_both<Plan<96, 96, 1, 64, 2, 2>, Plan<96, 96, 1, 64, 2, 2>>(p);
}

}  // namespace sinopia::cuda
