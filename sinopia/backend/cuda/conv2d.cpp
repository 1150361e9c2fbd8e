#include <algorithm>
#include <optional>

#include "sinopia/backend/cuda/conv2d_ending.h"
#include "sinopia/backend/cuda/conv2d_operands.h"
#include "sinopia/backend/cuda/conv2d_plans.h"
#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/backend/cuda/packed_weights.h"
#include "sinopia/backend/cuda/runtime.h"

namespace sinopia {
namespace {

using namespace cuda;

/// What linear() adds; absent where it cannot add the same number to every pixel of an image.
std::optional<Tensor> add_of_rows(const Tensor& add, const Tensor& y) {
  if (!add || add.rank() == 4) return add;
  return y.dim(1) * y.dim(2) == 1 ? std::optional(add.reshape(y.shape())) : std::nullopt;
}

/// A part of the convolution: images [image, image + 1) or rows [begin, end) of the only image.
struct Part {
  Tensor x, add, y;
  Conv2dOptions options;
};

Part of_images(const Tensor& x, const Tensor& add, const Conv2dOptions& options, const Tensor& y,
               int64_t begin, int64_t end) {
  return {x.slice(begin, end), add ? add.slice(begin, end) : add, y.slice(begin, end), options};
}

Tensor rows_of(const Tensor& x, int64_t begin, int64_t end) {
  return x.reshape({x.dim(1), x.dim(2), x.dim(3)})
      .slice(begin, end)
      .reshape({1, end - begin, x.dim(2), x.dim(3)});
}

Part of_rows(const Tensor& x, const Tensor& add, int64_t kernel_height, const Conv2dOptions& options,
             const Tensor& y, int64_t begin, int64_t end) {
  const int64_t first = begin * options.stride - options.padding.top;
  const int64_t last = (end - 1) * options.stride - options.padding.top + kernel_height;
  const int64_t from = std::clamp<int64_t>(first, 0, x.dim(1)),
                to = std::clamp<int64_t>(last, from, x.dim(1));
  Part part{rows_of(x, from, to), add && add.rank() == 4 ? rows_of(add, begin, end) : add,
            rows_of(y, begin, end), options};
  part.options.padding.top = static_cast<int>(from - first);
  part.options.padding.bottom = static_cast<int>(last - to);
  return part;
}

/// The ending as a part of cuDNN's graph, where cuDNN has kernels for it ready or may compile them. `bias` is
/// of the problem's dtype.
std::optional<Convolution> fused(Convolution problem, const Tensor& bias, const Tensor& add,
                                 Activation activation) {
  const bool images = add && add.rank() == 2;
  const bool ready = bias && !images && activation == Activation::None;
  if (!ready && (!conv2d_planning().fuse || activation == Activation::Relu)) return std::nullopt;
  if (!is_aligned(bias) || !is_aligned(add)) return std::nullopt;
  problem.compile = !ready;
  problem.ending = {.add = !add     ? AddedShape::None
                           : images ? AddedShape::Images
                                    : AddedShape::Pixels,
                    .bias = bias.defined(),
                    .activation = activation};
  return problem;
}

/// The convolution alone. Where cuDNN has no plan for its padding, the zeros are written around x first.
void convolve(Convolution problem, const Tensor& x, const Tensor& w, Tensor& y) {
  if (run_convolution(problem, {.x = x.raw(), .w = w.raw(), .y = y.raw()})) return;
  const Tensor around = with_zeros_around(x, problem);
  SINOPIA_CHECK(
      around && run_convolution(without_padding(problem), {.x = around.raw(), .w = w.raw(), .y = y.raw()}),
      Unsupported, "[cuda] cuDNN has no convolution for {} and {} to {}", describe(x), describe(w),
      describe(y));
}

}  // namespace

/// Sums are f32. A bias, rounded to x's dtype, and an image for which cuDNN has a kernel are added to them
/// before they are rounded to y's; any other ending is a pass of its own over y, so that f16 and bf16 are
/// rounded twice: the sum of products, and the result.
void CudaKernels::conv2d(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& add,
                         const Conv2dOptions& options, Activation activation, Tensor& y) {
  if (y.numel() == 0) return;
  if (x.numel() == 0) {
    fill(y, 0);
    return finish_convolution(bias, add, activation, y);
  }
  if (is_pointwise(x.shape(), w.shape(), options, y.shape())) {
    if (const auto row_add = add_of_rows(add, y))
      return linear(x, w.reshape({w.dim(0), w.dim(1)}), bias, *row_add, activation, y);
  }
  const int64_t most = conv2d_planning().most_elements, N = y.dim(0), OH = y.dim(1);
  if (std::max(x.numel(), y.numel()) > most && (N > 1 || OH > 1)) {
    const int64_t middle = (N > 1 ? N : OH) / 2, end = N > 1 ? N : OH;
    for (const auto& [from, to] : {std::pair{int64_t{0}, middle}, std::pair{middle, end}}) {
      Part part =
          N > 1 ? of_images(x, add, options, y, from, to) : of_rows(x, add, w.dim(2), options, y, from, to);
      conv2d(part.x, w, bias, part.add, part.options, activation, part.y);
    }
    return;
  }
  const Tensor packed = packed_weights::of(w, x.dtype());
  const Aligned image(x), weights(packed);
  AlignedResult result(y);
  const Convolution problem =
      convolution_of(ConvolutionKind::Forward, x.shape(), w.shape(), y.shape(), options, x.dtype());
  if (bias || add || activation != Activation::None) {
    const Tensor rounded_bias =
        bias ? packed_weights::of(bias.reshape({w.dim(0), 1, 1, 1}), x.dtype()) : bias;
    const auto whole = fused(problem, rounded_bias, add, activation);
    if (whole && run_convolution(*whole, {.x = image.tensor().raw(),
                                          .w = weights.tensor().raw(),
                                          .y = result.tensor().raw(),
                                          .bias = rounded_bias.raw(),
                                          .add = add.raw()}))
      return result.finish();
  }
  convolve(problem, image.tensor(), weights.tensor(), result.tensor());
  finish_convolution(bias, add, activation, result.tensor());
  result.finish();
}

}  // namespace sinopia
