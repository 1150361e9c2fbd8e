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
  V s0 = a, s1 = a, s2 = a, s3 = a, s4 = a, s5 = a, s6 = a, s7 = a, s8 = a, s9 = a;
  for (int64_t i = 0; i < rounds; ++i) {
    s0 = hn::MulAdd(s0, a, a), s1 = hn::MulAdd(s1, a, a), s2 = hn::MulAdd(s2, a, a),
    s3 = hn::MulAdd(s3, a, a);
    s4 = hn::MulAdd(s4, a, a), s5 = hn::MulAdd(s5, a, a), s6 = hn::MulAdd(s6, a, a),
    s7 = hn::MulAdd(s7, a, a);
    s8 = hn::MulAdd(s8, a, a), s9 = hn::MulAdd(s9, a, a);
  }
  const V sum = hn::Add(hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)),
                        hn::Add(hn::Add(hn::Add(s4, s5), hn::Add(s6, s7)), hn::Add(s8, s9)));
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
