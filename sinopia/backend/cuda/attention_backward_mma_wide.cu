#include "sinopia/backend/cuda/attention_backward_mma.h"

namespace sinopia::cuda {

bool attention_backward_mma_wide(const AttentionGradient& p) {
  using attention_mma::Plan;
  using attention_mma::try_both;
  if (p.D <= 128) return try_both<Plan<128, 128, 1, 64, 2, 2>, Plan<128, 128, 1, 32, 2, 2>>(p);
  if (p.D <= 160) return try_both<Plan<160, 160, 1, 32, 2, 2>, Plan<160, 160, 1, 32, 2, 2>>(p);
  if (p.D <= 256) return try_both<Plan<256, 256, 1, 32, 1, 2>, Plan<256, 128, 1, 32, 1, 2>>(p);
  if (p.D <= 512) return try_both<Plan<512, 256, 1, 32, 1, 1>, Plan<512, 128, 1, 32, 1, 1>>(p);
  return false;
}

}  // namespace sinopia::cuda
