#include <algorithm>
#include <numeric>
#include <vector>

#include "sinopia/backend/cpu/cast.h"
#include "sinopia/backend/cpu/cpu_kernels.h"
#include "sinopia/base/threads.h"

namespace sinopia {

void CpuKernels::sum_rows(const Tensor& dy, const Tensor& ids, Tensor& dtable) {
  fill(dtable, 0);
  if (dy.numel() == 0) return;
  const int64_t D = dtable.dim(-1);
  const int32_t* id = ids.data<int32_t>();
  // Rows of one id side by side, in their order: each is one thread's.
  std::vector<int64_t> order(static_cast<size_t>(ids.numel()));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return id[a] < id[b]; });
  std::vector<int64_t> starts;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i == 0 || id[order[i]] != id[order[i - 1]]) starts.push_back(static_cast<int64_t>(i));
  }
  starts.push_back(ids.numel());
  parallel_for(static_cast<int64_t>(starts.size()) - 1, std::max<int64_t>(1, kMemoryGrain / D),
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = starts[static_cast<size_t>(begin)]; i < starts[static_cast<size_t>(end)];
                      ++i) {
                   const int64_t row = order[static_cast<size_t>(i)];
                   const float* from = dy.data<float>() + row * D;
                   float* to = dtable.data<float>() + id[row] * D;
                   for (int64_t c = 0; c < D; ++c) to[c] += from[c];
                 }
               });
}

}  // namespace sinopia
