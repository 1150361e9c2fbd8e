#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <type_traits>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "sinopia/backend/cuda/shared_address.h"

namespace sinopia::cuda {

namespace emulated {

template <class T>
float half_of(uint32_t pair, int which) {
  const auto bits = static_cast<unsigned short>(pair >> (16 * which));
  if constexpr (std::is_same_v<T, __half>) {
    return __half2float(__half{bits});
  } else {
    return __bfloat162float(__nv_bfloat16{bits});
  }
}

/// For four matrices or two.
template <size_t kCount>
void load(uint32_t (&to)[kCount], SharedAddress row, bool transposed) {
  struct Lane {
    uint32_t* to;
    SharedAddress row;
  } mine{to, row};
  sinopia_emulation::together(&mine, [transposed](void* const* lanes) {
    const auto lane = [&](size_t i) { return static_cast<Lane*>(lanes[i]); };
    for (size_t m = 0; m < kCount; ++m) {
      uint16_t x[8][8];
      for (size_t r = 0; r < 8; ++r) {
        const SharedAddress from = lane(8 * m + r)->row;
        if (from % 16 != 0) {
          std::fprintf(stderr, "CUDA emulation: a row of load_matrices is not at a multiple of 16 bytes\n");
          std::abort();
        }
        std::memcpy(x[r], reinterpret_cast<const void*>(from), 16);
      }
      for (size_t i = 0; i < 32; ++i) {
        const size_t g = i / 4, j = 2 * (i % 4);
        const uint32_t low = transposed ? x[j][g] : x[g][j], high = transposed ? x[j + 1][g] : x[g][j + 1];
        lane(i)->to[m] = low | high << 16;
      }
    }
  });
}

}  // namespace emulated

template <class T>
void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  struct Lane {
    float* c;
    const uint32_t* a;
    uint32_t b[2];
  } mine{c, a, {b0, b1}};
  sinopia_emulation::together(&mine, [](void* const* lanes) {
    float left[16][16], right[16][8];
    for (int i = 0; i < 32; ++i) {
      const Lane& lane = *static_cast<Lane*>(lanes[i]);
      const int g = i / 4, j = 2 * (i % 4);
      for (int h = 0; h < 2; ++h) {
        for (int r = 0; r < 4; ++r)
          left[g + r % 2 * 8][j + r / 2 * 8 + h] = emulated::half_of<T>(lane.a[r], h);
        for (int r = 0; r < 2; ++r) right[j + r * 8 + h][g] = emulated::half_of<T>(lane.b[r], h);
      }
    }
    for (int i = 0; i < 32; ++i) {
      const Lane& lane = *static_cast<Lane*>(lanes[i]);
      const int g = i / 4, j = 2 * (i % 4);
      for (int r = 0; r < 4; ++r) {
        float sum = 0;
        for (int k = 0; k < 16; ++k) sum += left[g + r / 2 * 8][k] * right[k][j + r % 2];
        lane.c[r] += sum;
      }
    }
  });
}

inline void load_matrices(uint32_t (&to)[4], SharedAddress row) { emulated::load(to, row, false); }
inline void load_matrices_transposed(uint32_t (&to)[4], SharedAddress row) { emulated::load(to, row, true); }
inline void load_matrices(uint32_t (&to)[2], SharedAddress row) { emulated::load(to, row, false); }
inline void load_matrices_transposed(uint32_t (&to)[2], SharedAddress row) { emulated::load(to, row, true); }

inline float exp2_flushed(float x) { return x < -126 ? 0.0f : std::exp2(x); }

}  // namespace sinopia::cuda
