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

double CpuKernels::sum_of_squares(const Tensor& x) {
  return sum_of(x.data<float>(), x.numel(), [](double v) { return v * v; });
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

void CpuKernels::row_max(const Tensor& x, Tensor& value, Tensor& place) {
  const int64_t rows = value.numel(), D = x.dim(-1);
  const int64_t grain = std::max<int64_t>(1, kMemoryGrain / std::max<int64_t>(D, 1));
  parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* row = x.data<float>() + i * D;
      int64_t best = 0;
      for (int64_t k = 1; k < D; ++k) best = row[k] > row[best] ? k : best;
      value.data<float>()[i] = row[best];
      place.data<int32_t>()[i] = static_cast<int32_t>(best);
    }
  });
}

void CpuKernels::group_mean(const Tensor& x, const Tensor& group, Tensor& y) {
  const int64_t B = x.dim(0), T = x.dim(1), C = x.dim(2), M = y.dim(1);
  // A group is summed by the one thread that has its channels, so that the order is the rows' own.
  constexpr int64_t kChannels = 16;
  const int64_t strips = (C + kChannels - 1) / kChannels;
  parallel_for(B * strips, 1, [&](int64_t begin, int64_t end) {
    std::vector<int64_t> counts(static_cast<size_t>(M));
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / strips, from = i % strips * kChannels, to = std::min(C, from + kChannels);
      const int32_t* groups = group.data<int32_t>() + b * T;
      float* sums = y.data<float>() + b * M * C;
      std::fill(counts.begin(), counts.end(), 0);
      for (int64_t m = 0; m < M; ++m) std::fill(sums + m * C + from, sums + m * C + to, 0.0f);
      for (int64_t t = 0; t < T; ++t) {
        const float* row = x.data<float>() + (b * T + t) * C;
        ++counts[static_cast<size_t>(groups[t])];
        for (int64_t c = from; c < to; ++c) sums[groups[t] * C + c] += row[c];
      }
      for (int64_t m = 0; m < M; ++m) {
        const float count = static_cast<float>(std::max<int64_t>(1, counts[static_cast<size_t>(m)]));
        for (int64_t c = from; c < to; ++c) sums[m * C + c] /= count;
      }
    }
  });
}

}  // namespace sinopia
