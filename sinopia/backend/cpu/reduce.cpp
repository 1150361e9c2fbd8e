#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <limits>
#include <vector>

#include "sinopia/backend/cpu/cast.h"
#include "sinopia/backend/cpu/cpu_kernels.h"
#include "sinopia/base/threads.h"

namespace sinopia {
namespace {

// term(x[i]) summed in double with eight running sums, which the compiler keeps in vectors; in blocks that
// do not depend on the number of threads.
template <class Term>
double sum_of(const float* x, int64_t count, const Term& term) {
  std::vector<double> partial(static_cast<size_t>((count + kMemoryGrain - 1) / kMemoryGrain));
  parallel_for(count, kMemoryGrain, [&](int64_t begin, int64_t end) {
    std::array<double, 8> sums{};
    int64_t i = begin;
    for (; i + 8 <= end; i += 8) {
      for (int64_t k = 0; k < 8; ++k) sums[static_cast<size_t>(k)] += term(static_cast<double>(x[i + k]));
    }
    for (; i < end; ++i) sums[0] += term(static_cast<double>(x[i]));
    double& total = partial[static_cast<size_t>(begin / kMemoryGrain)];
    for (double s : sums) total += s;
  });
  double total = 0;
  for (double p : partial) total += p;
  return total;
}

}  // namespace

void CpuKernels::moments(const Tensor& x, int correction, Tensor& mean, Tensor& variance) {
  const int64_t N = mean.numel(), count = N ? x.numel() / N : 0;
  const double n = static_cast<double>(count);
  for (int64_t i = 0; i < N; ++i) {
    const float* row = x.data<float>() + i * count;
    const double m = sum_of(row, count, [](double v) { return v; }) / n;
    const double squares = sum_of(row, count, [m](double v) { return (v - m) * (v - m); });
    mean.data<float>()[i] = static_cast<float>(m);
    variance.data<float>()[i] = count > correction ? static_cast<float>(squares / (n - correction))
                                                   : std::numeric_limits<float>::quiet_NaN();
  }
}

bool CpuKernels::all_finite(const Tensor& x) {
  const float* values = x.data<float>();
  std::atomic<bool> finite{true};
  parallel_for(x.numel(), kMemoryGrain, [&](int64_t begin, int64_t end) {
    constexpr uint32_t kExponent = 0x7f800000u;
    bool found = false;
    for (int64_t i = begin; i < end; ++i)
      found |= (std::bit_cast<uint32_t>(values[i]) & kExponent) == kExponent;
    if (found) finite.store(false, std::memory_order_relaxed);
  });
  return finite.load();
}

}  // namespace sinopia
