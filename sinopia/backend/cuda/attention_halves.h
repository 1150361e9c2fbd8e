#pragma once

#include "sinopia/backend/cuda/attention_narrow.h"
#include "sinopia/backend/cuda/attention_wide.h"

namespace sinopia::cuda {

/// Attention of halves: chooses the kernel.
template <class T>
void attend_halves(const AttentionProblem<T>& p) {
  const auto multiple_of_16 = [](const void* x) { return reinterpret_cast<uintptr_t>(x) % 16 == 0; };
  const bool aligned = p.columns % 8 == 0 && multiple_of_16(p.q) && multiple_of_16(p.k) &&
                       multiple_of_16(p.v) && multiple_of_16(p.y);
  // Blocks of 64 rows read keys and values twice as often as those of 128; they pay where there are few.
  const bool few = p.batch * p.heads * ceil_div(p.queries, 128) < 2 * int64_t{limits().multiprocessors};
  if (p.columns <= 32) return attend_narrow<T, 32, 2>(p, aligned);
  if (p.columns <= 40) return attend_narrow<T, 40, 2>(p, aligned);
  if (p.columns <= 64) return few ? attend_narrow<T, 64, 1>(p, aligned) : attend_narrow<T, 64, 2>(p, aligned);
  if (p.columns <= 80) return few ? attend_narrow<T, 80, 1>(p, aligned) : attend_narrow<T, 80, 2>(p, aligned);
  if (p.columns <= 96) return attend_narrow<T, 96, 2>(p, aligned);
  if (p.columns <= 128)
    return few ? attend_narrow<T, 128, 1>(p, aligned) : attend_narrow<T, 128, 2>(p, aligned);
  if (p.columns <= 160) return attend_narrow<T, 160, 1>(p, aligned);
  if (p.columns <= 256) return attend_narrow<T, 256, 1>(p, aligned);
  using Large = WideAttention<2, 4, 2, 64>;
  const int64_t blocks = p.batch * p.heads * ceil_div(p.queries, Large::kQueries);
  if (limits().shared_memory < Large::kSharedBytes || 4 * blocks <= limits().multiprocessors)
    return attend_wide<T, 2, 2, 1, 16>(p, aligned);
  return attend_wide<T, 2, 4, 2, 64>(p, aligned);
}

}  // namespace sinopia::cuda
