#include "sinopia/ops/conv2d.h"

#include <array>

#include "sinopia/autograd/tape.h"
#include "sinopia/ops/activation.h"
#include "sinopia/ops/checks.h"
#include "sinopia/ops/elementwise.h"

namespace sinopia {
namespace {

Gradients conv2d_gradients(const Tensor& x, const Tensor& weight, const Tensor& add,
                           const Conv2dOptions& options, const Tensor& dy, const Wanted& wanted) {
  Gradients gradients(4);
  Kernels& device = kernels(x.device());
  const int64_t N = dy.dim(0), O = dy.dim(3), pixels = dy.dim(1) * dy.dim(2);
  if (wanted[0]) {
    gradients[0] = empty_like(x);
    device.conv2d_backward_input(dy, weight, options, gradients[0]);
  }
  if (wanted[1]) {
    gradients[1] = Tensor::empty(weight.shape(), DType::F32, weight.device());
    device.conv2d_backward_weight(x, dy, options, gradients[1]);
  }
  if (wanted[2]) gradients[2] = sum_to(dy.reshape({N * pixels, O}), {O});
  if (wanted[3])
    gradients[3] = add.rank() == 4 ? dy : sum_to(dy.reshape({N, pixels, O}), {N, 1, O}).reshape({N, O});
  return gradients;
}

}  // namespace

Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dOptions& options,
              const Tensor& add, Activation activation) {
  checks::activation("conv2d", "x", x);
  checks::rank("conv2d", "x", x, 4);
  checks::weight("conv2d", "weight", weight, x);
  checks::rank("conv2d", "weight", weight, 4);
  const int64_t N = x.dim(0), O = weight.dim(0), KH = weight.dim(2), KW = weight.dim(3);
  SINOPIA_CHECK(x.dim(3) == weight.dim(1), InvalidArgument, "[conv2d] expected C={}, got {} (x={})",
                weight.dim(1), x.dim(3), to_string(x.shape()));
  checks::optional_vector("conv2d", "bias", bias, O, x);
  const Padding& padding = options.padding;
  SINOPIA_CHECK(options.stride >= 1 && padding.top >= 0 && padding.left >= 0 && padding.bottom >= 0 &&
                    padding.right >= 0,
                InvalidArgument,
                "[conv2d] expected stride >= 1 and padding >= 0, got stride {} and padding {},{},{},{}",
                options.stride, padding.top, padding.left, padding.bottom, padding.right);
  const int64_t height = x.dim(1) + padding.top + padding.bottom,
                width = x.dim(2) + padding.left + padding.right;
  SINOPIA_CHECK(KH >= 1 && KW >= 1 && height >= KH && width >= KW, InvalidArgument,
                "[conv2d] expected at least {}x{} pixels with padding, got {}x{} (x={}, weight={})", KH, KW,
                height, width, to_string(x.shape()), to_string(weight.shape()));
  const Shape shape{N, (height - KH) / options.stride + 1, (width - KW) / options.stride + 1, O};
  if (add.defined()) {
    checks::operand("conv2d", "add", add, x);
    SINOPIA_CHECK(add.shape() == shape || add.shape() == (Shape{N, O}), InvalidArgument,
                  "[conv2d] expected add={} or [{},{}], got {}", to_string(shape), N, O,
                  to_string(add.shape()));
  }
  // The activation's gradient needs what comes before it.
  if (activation != Activation::None && recording_gradients())
    return activate(conv2d(x, weight, bias, options, add), activation);
  Tensor y = Tensor::empty(shape, x.dtype(), x.device());
  if (y.numel() > 0) kernels(x.device()).conv2d(x, weight, bias, add, options, activation, y);
  return record("conv2d", y, std::array{&x, &weight, &bias, &add},
                [x, weight, add, options](const Tensor& dy, const Wanted& wanted) {
                  return conv2d_gradients(x, weight, add, options, dy, wanted);
                });
}

}  // namespace sinopia
