#include <algorithm>

#include "sinopia/backend/conv2d_method.h"
#include "sinopia/backend/cpu/cast.h"
#include "sinopia/backend/cpu/cpu_kernels.h"
#include "sinopia/backend/cpu/gemm.h"
#include "sinopia/backend/cpu/winograd_gradient.h"
#include "sinopia/base/threads.h"

namespace sinopia {
namespace {

constexpr int64_t kPatchFloats = 4 << 20;  // patches of a strip of pixels at a time

/// w [O,I,KH,KW] -> [I,O,KH,KW], both kernel axes turned round.
Tensor turned(const Tensor& w) {
  const Tensor wide = widened(w);
  const int64_t O = w.dim(0), I = w.dim(1), taps = w.dim(2) * w.dim(3);
  Tensor result = Tensor::empty({I, O, w.dim(2), w.dim(3)});
  const float* from = wide.data<float>();
  float* to = result.data<float>();
  parallel_for(I, std::max<int64_t>(1, kMemoryGrain / std::max<int64_t>(1, O * taps)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) {
                   for (int64_t o = 0; o < O; ++o) {
                     for (int64_t t = 0; t < taps; ++t)
                       to[(i * O + o) * taps + t] = from[(o * I + i) * taps + taps - 1 - t];
                   }
                 }
               });
  return result;
}

/// Rows of outputs whose patches are held at a time, and what they see.
struct Strip {
  int64_t image, begin, end;  // output rows
};

/// Adds to each input pixel what the patches of a strip's outputs hold for it, in the order of the kernel's
/// taps.
void add_patches(const Strip& strip, const float* patches, const Tensor& w, const Conv2dOptions& options,
                 int64_t OW, Tensor& dx) {
  const int64_t H = dx.dim(1), W = dx.dim(2), I = dx.dim(3), KH = w.dim(2), KW = w.dim(3), s = options.stride;
  const int64_t first = std::max<int64_t>(0, strip.begin * s - options.padding.top);
  const int64_t last = std::min(H, (strip.end - 1) * s - options.padding.top + KH);
  parallel_for(last - first, 1, [&](int64_t begin, int64_t end) {
    for (int64_t y = first + begin; y < first + end; ++y) {
      for (int64_t ky = 0; ky < KH; ++ky) {
        const int64_t at = y + options.padding.top - ky, oy = at / s;
        if (at < 0 || at % s != 0 || oy < strip.begin || oy >= strip.end) continue;
        for (int64_t ox = 0; ox < OW; ++ox) {
          for (int64_t kx = 0; kx < KW; ++kx) {
            const int64_t x = ox * s - options.padding.left + kx;
            if (x < 0 || x >= W) continue;
            const float* from = patches + (((oy - strip.begin) * OW + ox) * KH * KW + ky * KW + kx) * I;
            float* to = dx.data<float>() + ((strip.image * H + y) * W + x) * I;
            for (int64_t c = 0; c < I; ++c) to[c] += from[c];
          }
        }
      }
    }
  });
}

Conv2dMethod choose_method(const WeightGradientProblem& p, const Conv2dOptions& options) {
  if (p.patches.kernel_height != 3 || p.patches.kernel_width != 3 || options.stride != 1)
    return Conv2dMethod::Direct;
  return choose_conv2d_method(
      options.method, {direct_gradient_cost(p), winograd_gradient_cost(p, 2), winograd_gradient_cost(p, 4)});
}

}  // namespace

void CpuKernels::conv2d_backward_input(const Tensor& dy, const Tensor& w, const Conv2dOptions& options,
                                       Tensor& dx) {
  if (dx.numel() == 0) return;
  const int64_t O = w.dim(0), I = w.dim(1), KH = w.dim(2), KW = w.dim(3), OH = dy.dim(1), OW = dy.dim(2);
  // How far a kernel turned round reaches beyond dy.
  const Padding reach{
      static_cast<int>(KH) - 1 - options.padding.top, static_cast<int>(KW) - 1 - options.padding.left,
      static_cast<int>(KH) - 1 - options.padding.bottom, static_cast<int>(KW) - 1 - options.padding.right};
  if (options.stride == 1 && dy.numel() > 0 &&
      std::min({reach.top, reach.left, reach.bottom, reach.right}) >= 0)
    return conv2d(dy, turned(w), {}, {}, {.stride = 1, .padding = reach, .method = options.method},
                  Activation::None, dx);

  fill(dx, 0);
  if (dy.numel() == 0) return;
  Tensor by_pixel = Tensor::empty({O, KH, KW, I});
  const Tensor wide = widened(w);
  const int axes[] = {0, 2, 3, 1};
  permute(wide, axes, by_pixel);
  const int64_t size = KH * KW * I, rows = std::clamp<int64_t>(kPatchFloats / (OW * size), 1, OH);
  Tensor patches = Tensor::empty({rows * OW, size});
  for (int64_t n = 0; n < dy.dim(0); ++n) {
    for (int64_t oy = 0; oy < OH; oy += rows) {
      const Strip strip{n, oy, std::min(OH, oy + rows)};
      GemmProblem p;
      p.m = (strip.end - oy) * OW;
      p.n = size;
      p.k = O;
      p.x = dy.data<float>() + (n * OH + oy) * OW * O;
      p.w = by_pixel.data<float>();
      p.w_is_kn = true;
      p.y = patches.data<float>();
      gemm(p);
      add_patches(strip, patches.data<float>(), w, options, OW, dx);
    }
  }
}

void CpuKernels::conv2d_backward_weight(const Tensor& x, const Tensor& dy, const Conv2dOptions& options,
                                        Tensor& dw) {
  if (dw.numel() == 0) return;
  if (dy.numel() == 0) return fill(dw, 0);
  const Patches patches{.height = x.dim(1),
                        .width = x.dim(2),
                        .channels = x.dim(3),
                        .out_height = dy.dim(1),
                        .out_width = dy.dim(2),
                        .kernel_height = dw.dim(2),
                        .kernel_width = dw.dim(3),
                        .stride = options.stride,
                        .pad_top = options.padding.top,
                        .pad_left = options.padding.left};
  const WeightGradientProblem filtering{patches,         dy.dim(0),        dy.dim(3),
                                        x.data<float>(), dy.data<float>(), dw.data<float>()};
  const Conv2dMethod method = choose_method(filtering, options);
  if (dw.dim(2) * dw.dim(3) > 1) count_conv2d(method);
  if (method == Conv2dMethod::Winograd2) return winograd_weight_gradient(filtering, 2);
  if (method == Conv2dMethod::Winograd4) return winograd_weight_gradient(filtering, 4);
  const bool pointwise = dw.dim(2) == 1 && dw.dim(3) == 1;
  Tensor by_pixel = pointwise ? dw : Tensor::empty({dw.dim(0), dw.dim(2), dw.dim(3), dw.dim(1)});
  GemmProblem p;
  p.m = dw.dim(0);
  p.n = dw.dim(1) * dw.dim(2) * dw.dim(3);
  p.k = dy.numel() / dw.dim(0);
  p.x = dy.data<float>();
  p.x_is_km = true;
  p.w = x.data<float>();
  p.w_is_kn = true;
  p.w_patches = &patches;
  p.y = by_pixel.data<float>();
  gemm(p);
  if (pointwise) return;
  const int axes[] = {0, 3, 1, 2};
  permute(by_pixel, axes, dw);
}

}  // namespace sinopia
