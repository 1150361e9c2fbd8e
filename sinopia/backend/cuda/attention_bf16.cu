#include "sinopia/backend/cuda/attention_halves.h"

namespace sinopia::cuda {

void attention(const AttentionProblem<__nv_bfloat16>& problem) { attend_halves(problem); }

}  // namespace sinopia::cuda
