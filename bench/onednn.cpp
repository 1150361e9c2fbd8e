#include <memory>

#include <oneapi/dnnl/dnnl.hpp>

#include "bench/bench.h"

namespace sinopia::bench {
namespace {

using Dims = dnnl::memory::dims;
using Tag = dnnl::memory::format_tag;
constexpr auto kF32 = dnnl::memory::data_type::f32;

dnnl::memory::desc describe_any(const Dims& dims) { return {dims, kF32, Tag::any}; }

/// A primitive with its arguments. Weights are moved from the user's layout into the primitive's: once, or on
/// each run.
struct Call {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  dnnl::primitive primitive;
  dnnl::memory user_weights, weights;
  std::unordered_map<int, dnnl::memory> arguments;

  void reorder() {
    if (weights != user_weights) dnnl::reorder(user_weights, weights).execute(stream, user_weights, weights);
  }
};

template <class Primitive, class Description>
std::vector<Contender> contenders(std::shared_ptr<Call> call, const Description& description, const Tensor& x,
                                  const Tensor& w, const dnnl::memory::desc& w_layout, const Tensor& bias,
                                  Tensor y) {
  call->primitive = Primitive(description);
  call->user_weights = dnnl::memory(w_layout, call->engine, const_cast<void*>(w.raw()));
  call->weights = description.weights_desc() == w_layout
                      ? call->user_weights
                      : dnnl::memory(description.weights_desc(), call->engine);
  call->reorder();
  call->arguments = {
      {DNNL_ARG_SRC, dnnl::memory(description.src_desc(), call->engine, const_cast<void*>(x.raw()))},
      {DNNL_ARG_WEIGHTS, call->weights},
      {DNNL_ARG_DST, dnnl::memory(description.dst_desc(), call->engine, y.raw())}};
  if (bias) {
    call->arguments.emplace(
        DNNL_ARG_BIAS, dnnl::memory(description.bias_desc(), call->engine, const_cast<void*>(bias.raw())));
  }
  const auto run = [call, x, w, bias] {
    call->primitive.execute(call->stream, call->arguments);
    call->stream.wait();
  };
  const auto run_reordering = [call, run] {
    call->reorder();
    run();
  };
  return {{"oneDNN", run, y}, {"oneDNN+reorder", run_reordering, y}};
}

}  // namespace

std::vector<Contender> onednn_conv2d(const Tensor& x, const Tensor& w, const Tensor& bias,
                                     const Conv2dOptions& options, const Shape& y_shape) {
  auto call = std::make_shared<Call>();
  const Padding& pad = options.padding;
  const Dims x_dims{x.dim(0), x.dim(3), x.dim(1), x.dim(2)}, w_dims{w.dim(0), w.dim(1), w.dim(2), w.dim(3)};
  const Dims y_dims{y_shape.dim(0), y_shape.dim(3), y_shape.dim(1), y_shape.dim(2)};
  const dnnl::convolution_forward::desc operation(
      dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, {x_dims, kF32, Tag::nhwc},
      describe_any(w_dims), {Dims{w.dim(0)}, kF32, Tag::x}, {y_dims, kF32, Tag::nhwc},
      {options.stride, options.stride}, {pad.top, pad.left}, {pad.bottom, pad.right});
  const dnnl::convolution_forward::primitive_desc description(operation, call->engine);
  return contenders<dnnl::convolution_forward>(call, description, x, w, {w_dims, kF32, Tag::oihw}, bias,
                                               Tensor::empty(y_shape));
}

std::vector<Contender> onednn_linear(const Tensor& x, const Tensor& w, const Tensor& bias) {
  auto call = std::make_shared<Call>();
  const int64_t M = x.numel() / w.dim(1);
  const dnnl::inner_product_forward::desc operation(
      dnnl::prop_kind::forward_inference, {Dims{M, w.dim(1)}, kF32, Tag::ab},
      describe_any({w.dim(0), w.dim(1)}), {Dims{w.dim(0)}, kF32, Tag::x}, {Dims{M, w.dim(0)}, kF32, Tag::ab});
  const dnnl::inner_product_forward::primitive_desc description(operation, call->engine);
  return contenders<dnnl::inner_product_forward>(
      call, description, x, w, {Dims{w.dim(0), w.dim(1)}, kF32, Tag::ab}, bias, Tensor::empty({M, w.dim(0)}));
}

std::vector<Contender> onednn_matmul(const Tensor& a, const Tensor& b, bool transpose_b) {
  auto call = std::make_shared<Call>();
  const int64_t B = a.dim(0), M = a.dim(1), K = a.dim(2), N = transpose_b ? b.dim(1) : b.dim(2);
  const dnnl::memory::desc b_layout(Dims{B, K, N}, kF32, transpose_b ? Tag::acb : Tag::abc);
  const dnnl::matmul::desc operation({Dims{B, M, K}, kF32, Tag::abc}, b_layout,
                                     {Dims{B, M, N}, kF32, Tag::abc});
  const dnnl::matmul::primitive_desc description(operation, call->engine);
  auto both = contenders<dnnl::matmul>(call, description, a, b, b_layout, {}, Tensor::empty({B, M, N}));
  both.pop_back();
  return both;
}

}  // namespace sinopia::bench
