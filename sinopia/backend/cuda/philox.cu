#include <algorithm>

#include "sinopia/backend/cuda/map.h"
#include "sinopia/backend/cuda/philox.h"

namespace sinopia::cuda {
namespace {

struct Key {
  uint32_t low, high;
};

/// The first two words of Philox4x32-10 of Salmon et al. 2011 for the counter (offset, 0, number, 0).
__device__ uint2 philox(uint32_t offset, uint32_t number, Key key) {
  uint32_t a = offset, b = 0, c = number, d = 0;
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint32_t high_a = __umulhi(0xD2511F53u, a), low_a = 0xD2511F53u * a;
    const uint32_t high_c = __umulhi(0xCD9E8D57u, c), low_c = 0xCD9E8D57u * c;
    a = high_c ^ b ^ key.low;
    b = low_c;
    c = high_a ^ d ^ key.high;
    d = low_a;
    key.low += 0x9E3779B9u;
    key.high += 0xBB67AE85u;
  }
  return make_uint2(a, b);
}

/// The sine half of Box-Muller, in double as the generator has it.
__device__ float normal(uint2 words) {
  constexpr double kTurn = static_cast<float>(0x1p-32 * 6.283185307179586);  // cuRAND's constant is a float
  const double u = words.x * 0x1p-32 + 0x1p-33, theta = words.y * kTurn + kTurn / 2;
  return static_cast<float>(sqrt(-2.0 * log(u)) * sin(theta));
}

template <int kCount, class T>
__global__ void draw(uint32_t offset, Key key, T* y, int64_t n) {
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * kMapThreads + threadIdx.x) * kCount;
  Run<T, kCount> run;
#pragma unroll
  for (int k = 0; k < kCount; ++k)
    run.values[k] = narrow_to<T>(normal(philox(offset, static_cast<uint32_t>(i + k), key)));
  if (i + kCount <= n) return store_run(y + i, run);
#pragma unroll
  for (int k = 0; k < kCount; ++k)
    if (i + k < n) y[i + k] = run.values[k];
}

}  // namespace

void philox_normal(uint64_t seed, uint64_t offset, Tensor& y) {
  const int64_t n = y.numel();
  use_device(y.device().index);
  const Key key{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  for_float(y.dtype(), [&](auto t) {
    using T = decltype(t);
    constexpr int kCount = 2;  // few enough that a latent fills the device
    const bool wide = aligned({y.raw()}, sizeof(T) * kCount);
    launch(wide ? draw<kCount, T> : draw<1, T>,
           dim3(static_cast<unsigned>(ceil_div(n, int64_t{wide ? kCount : 1} * kMapThreads))),
           dim3(kMapThreads), 0, static_cast<uint32_t>(offset), key, static_cast<T*>(y.raw()), n);
  });
}

}  // namespace sinopia::cuda
