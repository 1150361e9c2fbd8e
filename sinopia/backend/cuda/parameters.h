#pragma once

#include <cstdint>

#include "sinopia/backend/cuda/map.h"
#include "sinopia/tensor/tensor.h"

namespace sinopia::cuda {

/// The numbers of a norm's channels in a kernel: f32, f16 or bf16, or absent.
struct Parameters {
  const void* data = nullptr;
  DType dtype = DType::F32;

  Parameters() = default;
  explicit Parameters(const Tensor& w) : data(w.raw()), dtype(w.defined() ? w.dtype() : DType::F32) {
    SINOPIA_CHECK(dtype == DType::F32 || dtype == DType::F16 || dtype == DType::BF16, InvalidArgument,
                  "[cuda] expected parameters in f32, f16 or bf16, got {}", to_string(dtype));
  }
};

/// Whether load_parameters may read kCount neighbours at once.
template <int kCount>
bool aligned_parameters(const Parameters& w) {
  return aligned({w.data}, std::min<size_t>(16, kCount * size_of(w.dtype)));
}

__device__ inline float parameter_at(const Parameters& w, int64_t i, float otherwise) {
  if (!w.data) return otherwise;
  if (w.dtype == DType::F32) return static_cast<const float*>(w.data)[i];
  if (w.dtype == DType::F16) return widen(static_cast<const __half*>(w.data)[i]);
  return widen(static_cast<const __nv_bfloat16*>(w.data)[i]);
}

template <int kCount, class T>
__device__ inline void widen_run(const T* from, float* to) {
  constexpr int kPart = kCount < run_length(sizeof(T)) ? kCount : run_length(sizeof(T));
#pragma unroll
  for (int i = 0; i < kCount; i += kPart) {
    const Run<T, kPart> run = load_run<T, kPart>(from + i);
#pragma unroll
    for (int k = 0; k < kPart; ++k) to[i + k] = widen(run.values[k]);
  }
}

/// to[0..kCount) = w[i..); i is a multiple of kCount.
template <int kCount>
__device__ inline void load_parameters(const Parameters& w, int64_t i, float otherwise, float* to) {
  if (!w.data) {
#pragma unroll
    for (int k = 0; k < kCount; ++k) to[k] = otherwise;
  } else if (w.dtype == DType::F32) {
    widen_run<kCount>(static_cast<const float*>(w.data) + i, to);
  } else if (w.dtype == DType::F16) {
    widen_run<kCount>(static_cast<const __half*>(w.data) + i, to);
  } else {
    widen_run<kCount>(static_cast<const __nv_bfloat16*>(w.data) + i, to);
  }
}

}  // namespace sinopia::cuda
