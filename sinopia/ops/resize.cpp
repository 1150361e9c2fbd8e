#include "sinopia/ops/resize.h"

#include "sinopia/ops/checks.h"

namespace sinopia {

Tensor resize(const Tensor& x, int64_t height, int64_t width, ResizeFilter filter, bool antialias) {
  checks::activation("resize", "x", x);
  checks::rank("resize", "x", x, 4);
  SINOPIA_CHECK(height >= 1 && width >= 1, InvalidArgument,
                "[resize] expected a target of at least 1x1, got {}x{}", height, width);
  SINOPIA_CHECK(x.dim(1) >= 1 && x.dim(2) >= 1, InvalidArgument,
                "[resize] expected at least one pixel, got x={}", to_string(x.shape()));
  SINOPIA_CHECK(!antialias || filter == ResizeFilter::Bilinear || filter == ResizeFilter::Bicubic,
                InvalidArgument, "[resize] expected the bilinear or bicubic filter for antialiasing");
  Tensor y = Tensor::empty({x.dim(0), height, width, x.dim(3)}, x.dtype(), x.device());
  kernels(x.device()).resize(x, filter, antialias, y);
  return y;
}

Tensor upsample_nearest(const Tensor& x, int factor) {
  SINOPIA_CHECK(factor >= 1, InvalidArgument, "[upsample_nearest] expected a factor >= 1, got {}", factor);
  checks::rank("upsample_nearest", "x", x, 4);
  return resize(x, x.dim(1) * factor, x.dim(2) * factor, ResizeFilter::Nearest);
}

}  // namespace sinopia
