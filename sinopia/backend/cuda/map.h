#pragma once

#include <cstdint>
#include <initializer_list>

#include "sinopia/backend/cuda/elements.h"
#include "sinopia/backend/cuda/runtime.h"

namespace sinopia::cuda {

// Kernels that compute each element of y from the elements at its place in one or more inputs.

inline constexpr int kMapThreads = 256;
inline constexpr int kMapRuns = 2;  ///< of each thread: what it reads is under way before it computes

/// How many neighbours of `bytes` bytes each fill the widest access to memory.
constexpr int run_length(size_t bytes) { return static_cast<int>(16 / bytes); }

inline bool aligned(std::initializer_list<const void*> places, size_t bytes) {
  for (const void* place : places)
    if (reinterpret_cast<uintptr_t>(place) % bytes != 0) return false;
  return true;
}

template <class T, int kCount>
__device__ inline Run<T, kCount> load_run(const T* from) {
  return *reinterpret_cast<const Run<T, kCount>*>(from);
}
template <class T, int kCount>
__device__ inline void store_run(T* to, const Run<T, kCount>& run) {
  *reinterpret_cast<Run<T, kCount>*>(to) = run;
}

/// The grid of kernels whose threads take kMapRuns of `runs` runs each, kMapThreads apart.
inline dim3 map_grid(int64_t runs) {
  return {static_cast<unsigned>(ceil_div(runs, int64_t{kMapThreads} * kMapRuns))};
}
/// The first of them.
__device__ inline int64_t map_first() {
  return static_cast<int64_t>(blockIdx.x) * (kMapThreads * kMapRuns) + threadIdx.x;
}

template <class From, int kInputs>
struct Inputs {
  const From* at[kInputs];
};

/// y[i] = f(x[i], ..). Each element is read by the thread that writes it: y may be one of the inputs.
template <int kCount, int kInputs, class F, class From, class To>
__global__ void map_kernel(F f, Inputs<From, kInputs> x, To* y, int64_t n) {
  static_assert(kInputs == 1 || kInputs == 2);
  const int64_t first = map_first();
  Run<From, kCount> in[kMapRuns][kInputs];
#pragma unroll
  for (int r = 0; r < kMapRuns; ++r) {
    const int64_t i = (first + r * kMapThreads) * kCount;
    if (i + kCount > n) continue;
#pragma unroll
    for (int k = 0; k < kInputs; ++k) in[r][k] = load_run<From, kCount>(x.at[k] + i);
  }
#pragma unroll
  for (int r = 0; r < kMapRuns; ++r) {
    const int64_t i = (first + r * kMapThreads) * kCount;
    if (i + kCount <= n) {
      Run<To, kCount> out;
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        if constexpr (kInputs == 1) {
          out.values[k] = f(in[r][0].values[k]);
        } else {
          out.values[k] = f(in[r][0].values[k], in[r][1].values[k]);
        }
      }
      store_run(y + i, out);
    } else if constexpr (kCount > 1) {
      for (int64_t k = i; k < n; ++k) {
        if constexpr (kInputs == 1) {
          y[k] = f(x.at[0][k]);
        } else {
          y[k] = f(x.at[0][k], x.at[1][k]);
        }
      }
    }
  }
}

/// The same for n elements, in wide accesses where the addresses allow it.
template <int kInputs, class F, class From, class To>
void map(const F& f, const Inputs<From, kInputs>& x, To* y, int64_t n) {
  constexpr int kCount = run_length(sizeof(From) < sizeof(To) ? sizeof(From) : sizeof(To));
  bool wide = aligned({y}, sizeof(To) * kCount);
  for (const From* input : x.at) wide = wide && aligned({input}, sizeof(From) * kCount);
  if (wide) {
    launch(map_kernel<kCount, kInputs, F, From, To>, map_grid(ceil_div(n, kCount)), kMapThreads, 0, f, x, y,
           n);
  } else {
    launch(map_kernel<1, kInputs, F, From, To>, map_grid(n), kMapThreads, 0, f, x, y, n);
  }
}

/// A function of f32 on elements of type T.
template <class T, class F>
struct InFloat {
  F f;
  __device__ T operator()(T a) const { return narrow_to<T>(f(widen(a))); }
  __device__ T operator()(T a, T b) const { return narrow_to<T>(f(widen(a), widen(b))); }
};

}  // namespace sinopia::cuda
