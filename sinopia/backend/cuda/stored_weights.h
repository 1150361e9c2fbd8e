#pragma once

#include <type_traits>

#include "sinopia/backend/cuda/map.h"

namespace sinopia::cuda {

// What an optimizer leaves beside the weights in f32 that it trains: the same rounded to f16 or bf16, for a
// model that computes in them, or nothing.

/// stored[i..] = the values; nothing if S is void.
template <class S, int kCount>
__device__ inline void store_rounded(const Run<float, kCount>& values, S* stored, int64_t i) {
  if constexpr (!std::is_void_v<S>) {
    Run<S, kCount> rounded;
#pragma unroll
    for (int k = 0; k < kCount; ++k) rounded.values[k] = narrow_to<S>(values.values[k]);
    store_run(stored + i, rounded);
  }
}

/// f(pointer to the elements), a void* if `stored` is absent.
template <class F>
void for_stored(Tensor& stored, const F& f) {
  if (!stored) return f(static_cast<void*>(nullptr));
  for_float(stored.dtype(), [&](auto t) { f(static_cast<decltype(t)*>(stored.raw())); });
}

}  // namespace sinopia::cuda
