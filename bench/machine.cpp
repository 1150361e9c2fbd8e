#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/machine.cpp"
#include <algorithm>
#include <cstring>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "bench/bench.h"
#include "sinopia/base/threads.h"

HWY_BEFORE_NAMESPACE();
namespace sinopia::bench {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Multiply-adds in registers; returns how many operations they were.
double MultiplyAdd(int64_t rounds) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const V a = hn::Set(d, 0.999f);
  // Ten chains, enough for the latency; they start apart, or the compiler would see that they are one.
  V s[10];
#pragma GCC unroll 10
  for (int i = 0; i < 10; ++i) s[i] = hn::Set(d, 0.1f * static_cast<float>(i));
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 10
    for (int i = 0; i < 10; ++i) s[i] = hn::MulAdd(s[i], a, a);
  }
  V sum = s[0];
#pragma GCC unroll 10
  for (int i = 1; i < 10; ++i) sum = hn::Add(sum, s[i]);
  // The sum is positive; the compiler does not know.
  return hn::GetLane(sum) < 0 ? 0 : 20.0 * static_cast<double>(hn::Lanes(d)) * static_cast<double>(rounds);
}

}  // namespace HWY_NAMESPACE
}  // namespace sinopia::bench
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinopia::bench {

HWY_EXPORT(MultiplyAdd);

double measure_fma_flops() {
  std::vector<double> flops(thread_count() * 4);
  const double start = now();
  parallel_for(static_cast<int64_t>(flops.size()), 1,
               [&](int64_t i, int64_t) { flops[i] = HWY_DYNAMIC_DISPATCH(MultiplyAdd)(100000); });
  const double seconds = now() - start;
  double total = 0;
  for (double f : flops) total += f;
  return total / seconds;
}

double measure_copy_bytes() {
  constexpr int64_t kBytes = 128 << 20, kPiece = 1 << 20;
  const Tensor from = random_tensor({kBytes / 4});
  Tensor to = empty_like(from);
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    const double start = now();
    parallel_for(kBytes, kPiece, [&](int64_t begin, int64_t end) {
      std::memcpy(static_cast<char*>(to.raw()) + begin, static_cast<const char*>(from.raw()) + begin,
                  end - begin);
    });
    best = std::max(best, 2.0 * kBytes / (now() - start));
  }
  return best;
}

}  // namespace sinopia::bench
#endif
