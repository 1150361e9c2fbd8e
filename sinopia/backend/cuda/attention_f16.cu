#include "sinopia/backend/cuda/attention_halves.h"

namespace sinopia::cuda {

void attention(const AttentionProblem<__half>& problem) { attend_halves(problem); }

}  // namespace sinopia::cuda
