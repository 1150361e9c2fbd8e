#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sinopia/backend/cpu/conv2d_few_channels.cpp"
#include "sinopia/backend/cpu/conv2d_few_channels.h"

#include <algorithm>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "sinopia/backend/cpu/gemm-inl.h"
#include "sinopia/backend/cpu/gemm_plan.h"
#include "sinopia/backend/cpu/scratch.h"
#include "sinopia/base/threads.h"
#include "sinopia/tensor/tensor.h"

HWY_BEFORE_NAMESPACE();
namespace sinopia {
namespace HWY_NAMESPACE {

/// panel[k, j]: the weights of a panel of outputs, k in the order of a patch's pixels, zeros past the last.
template <class T>
void PackPanel(const GemmProblem& p, int64_t column, float* HWY_RESTRICT panel) {
  const int64_t width = TileColumns(), columns = std::min(width, p.n - column);
  const int64_t C = p.patches->channels, taps = p.k / C;
  const T* w = static_cast<const T*>(p.w) + column * p.k;
  for (int64_t tap = 0; tap < taps; ++tap) {
    for (int64_t c = 0; c < C; ++c, panel += width) {
      for (int64_t j = 0; j < columns; ++j) panel[j] = to_float(w[j * p.k + c * taps + tap]);
      std::fill(panel + columns, panel + width, 0.0f);
    }
  }
}

/// The lines of the picture that line `line` of the outputs sees, with their margins: [KH, length].
void CopyLines(const GemmProblem& p, int64_t line, int64_t length, float* HWY_RESTRICT to) {
  const Patches& g = *p.patches;
  const Corner corner = corner_of(g, p.x, line * g.out_width);
  const int64_t left = std::min(length, g.pad_left * g.channels);
  const int64_t inside = std::min(length - left, g.width * g.channels);
  for (int64_t i = 0; i < g.kernel_height; ++i, to += length) {
    const int64_t y = corner.y + i;
    if (y < 0 || y >= g.height) {
      std::fill_n(to, length, 0.0f);
      continue;
    }
    std::fill_n(to, left, 0.0f);
    std::copy_n(corner.image + y * g.width * g.channels, inside, to + left);
    std::fill(to + left + inside, to + length, 0.0f);
  }
}

/// The outputs from packed weights. In a copied line, neighbouring outputs are `step` floats apart and the
/// run of one patch, kRunLength floats if that is not 0, has no gap.
template <int kRunLength>
void Convolve(const GemmProblem& p, const float* packed) {
  const Patches& g = *p.patches;
  const int64_t width = TileColumns(), panels = divide_up(p.n, width);
  const int64_t step = g.stride * g.channels;
  const int64_t run = kRunLength > 0 ? kRunLength : g.kernel_width * g.channels;
  const int64_t length = (divide_up(g.out_width, kTileRows) * kTileRows - 1) * step + run;
  parallel_for(p.m / g.out_width, 1, [&](int64_t begin, int64_t end) HWY_ATTR {
    float* lines = thread_scratch(g.kernel_height * length);
    for (int64_t line = begin; line < end; ++line) {
      CopyLines(p, line, length, lines);
      for (int64_t panel = 0; panel < panels; ++panel) {
        for (int64_t from = 0; from < g.out_width; from += kTileRows) {
          // The last tile of a line repeats some outputs rather than hang over.
          const int64_t x = std::max<int64_t>(0, std::min(from, g.out_width - kTileRows));
          const auto multiply = [&](float* out, int64_t out_stride, const TileEnd& tile_end) HWY_ATTR {
            TileSums<kTileRows, kTileVectors> sums;
            sums.begin(out, out_stride);
            const float* at = lines + x * step;
            const float* w = packed + panel * p.k * width;
            for (int64_t i = 0; i < g.kernel_height; ++i, at += length, w += run * width) {
// More makes GCC keep loads in memory.
#pragma GCC unroll 3
              for (int64_t k = 0; k < run; ++k) sums.multiply(at, step, k, w);
            }
            sums.finish(out, out_stride, tile_end);
          };
          EmitTile(p, line * g.out_width + x, std::min<int64_t>(kTileRows, g.out_width - x), panel * width,
                   true, true, multiply);
        }
      }
    }
  });
}

void FewChannels(const GemmProblem& p) {
  const int64_t width = TileColumns(), panels = divide_up(p.n, width);
  const Tensor packed = Tensor::empty({panels * p.k * width});
  float* w = static_cast<float*>(packed.storage()->data());
  parallel_for(panels, 4, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* panel = w + i * p.k * width;
      if (p.w_dtype == DType::F16) {
        PackPanel<Half>(p, i * width, panel);
      } else if (p.w_dtype == DType::BF16) {
        PackPanel<BFloat16>(p, i * width, panel);
      } else {
        PackPanel<float>(p, i * width, panel);
      }
    }
  });
  switch (p.patches->kernel_width * p.patches->channels) {
    case 9:  // 3x3 of pictures
      return Convolve<9>(p, w);
    case 12:  // 3x3 of latents
      return Convolve<12>(p, w);
    default:
      return Convolve<0>(p, w);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sinopia
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinopia {

HWY_EXPORT(FewChannels);

void conv2d_few_channels(const GemmProblem& problem) {
  if (problem.m > 0 && problem.n > 0) HWY_DYNAMIC_DISPATCH(FewChannels)(problem);
}

}  // namespace sinopia
#endif
