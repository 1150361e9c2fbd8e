#include "sinopia/ops/resize.h"

#include <algorithm>
#include <array>

#include "sinopia/autograd/tape.h"
#include "sinopia/ops/checks.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/linear.h"
#include "sinopia/ops/shape.h"

namespace sinopia {
namespace {

/// What a filter makes of an axis of `from` pixels, as a matrix [to,from] for a product with `like`.
Tensor axis_matrix(int64_t from, int64_t to, ResizeFilter filter, bool antialias, const Tensor& like) {
  Tensor identity = zeros({1, from, 1, from});
  for (int64_t i = 0; i < from; ++i) identity.data<float>()[i * from + i] = 1;
  const Tensor matrix = resize(identity, to, 1, filter, antialias).reshape({to, from});
  return to_dtype(to_device(matrix, like.device()), like.dtype());
}

/// The last axis of x times the matrix.
Tensor times(const Tensor& x, const Tensor& matrix) {
  const int64_t K = x.dim(-1);
  return matmul(x.reshape({1, x.numel() / K, K}), matrix.reshape({1, K, matrix.dim(1)}))
      .reshape(x.shape().with(-1, matrix.dim(1)));
}

/// dx [N,H,W,C]: every filter is one matrix an axis, whose transposes take the gradient back.
Tensor resize_gradient(const Tensor& dy, int64_t H, int64_t W, ResizeFilter filter, bool antialias) {
  const int64_t N = dy.dim(0), OH = dy.dim(1), OW = dy.dim(2), C = dy.dim(3);
  if (filter == ResizeFilter::Nearest && OH % H == 0 && OW % W == 0) {
    const int64_t down = OH / H, across = OW / W;
    const Tensor rows = sum_to(dy.reshape({N * H, down, OW * C}), {N * H, 1, OW * C});
    return sum_to(rows.reshape({N * H * W, across, C}), {N * H * W, 1, C}).reshape({N, H, W, C});
  }
  const Tensor by_width =
      times(permute(dy, {0, 1, 3, 2}), axis_matrix(W, OW, filter, antialias, dy));  // N,OH,C,W
  const Tensor by_height = times(permute(by_width, {0, 3, 2, 1}), axis_matrix(H, OH, filter, antialias, dy));
  return permute(by_height, {0, 3, 1, 2});  // N,W,C,H -> N,H,W,C
}

}  // namespace

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
  return record("resize", y, std::array{&x},
                [H = x.dim(1), W = x.dim(2), filter, antialias](const Tensor& dy) {
                  if (dy.numel() == 0)
                    return Gradients{Tensor::empty({dy.dim(0), H, W, dy.dim(3)}, dy.dtype(), dy.device())};
                  return Gradients{resize_gradient(dy, H, W, filter, antialias)};
                });
}

Tensor upsample_nearest(const Tensor& x, int factor) {
  SINOPIA_CHECK(factor >= 1, InvalidArgument, "[upsample_nearest] expected a factor >= 1, got {}", factor);
  checks::rank("upsample_nearest", "x", x, 4);
  return resize(x, x.dim(1) * factor, x.dim(2) * factor, ResizeFilter::Nearest);
}

}  // namespace sinopia
