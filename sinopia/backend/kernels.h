#pragma once

#include <span>

#include "sinopia/tensor/tensor.h"

namespace sinopia {

enum class Activation { None, Silu, Gelu, GeluTanh, QuickGelu, Relu, Tanh, Sigmoid };
enum class UnaryOp {
  Silu,
  Gelu,
  GeluTanh,
  QuickGelu,
  Relu,
  LeakyRelu,
  Tanh,
  Sigmoid,
  Exp,
  Log,
  Sqrt,
  Abs,
  Square
};
enum class BinaryOp { Add, Subtract, Multiply, Divide, Minimum, Maximum };
/// Which factor of a product lies transposed.
enum class Transpose { None, Left, Right };
enum class ResizeFilter { Nearest, Bilinear, Bicubic, Area };

struct Padding {
  int top = 0, left = 0, bottom = 0, right = 0;
  static Padding same(int pixels) { return {pixels, pixels, pixels, pixels}; }
};

/// How a convolution is computed: every product, or for 3x3 kernels of stride 1 by minimal filtering in tiles
/// of 2x2 or 4x4 outputs, with 4/9 or 1/4 of the products and more rounding (of the largest output some 1e-6
/// and 5e-6). Where a method does not apply, Direct is taken; Auto is what is fastest for the shape.
enum class Conv2dMethod { Auto, Direct, Winograd2, Winograd4 };

struct Conv2dOptions {
  int stride = 1;
  Padding padding;  ///< zeros around x
  Conv2dMethod method = Conv2dMethod::Auto;
};

struct AttentionOptions {
  int heads = 1;
  float scale = 0;      ///< of q k^T; 0 means 1/sqrt(head size)
  bool causal = false;  ///< token t sees keys 0..t
};

/// A step of an optimizer, as all of them see it.
struct OptimizerStep {
  int64_t number = 1;  ///< from 1
  double learning_rate = 0, weight_decay = 0;
  double gradient_scale = 1;  ///< a factor of the gradient, that of clipping among others
};

struct AdamwConstants {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
};

struct LionConstants {
  double beta1 = 0.9, beta2 = 0.99;
};

struct AdafactorConstants {
  double eps = 1e-30;         ///< added to the squared gradient
  double clip_threshold = 1;  ///< of the update's root mean square
  double decay_rate = -0.8;   ///< beta2 of step t is 1 - t^decay_rate
  double beta1 = 0;           ///< of the mean update, where there is one
  double least_scale = 0;     ///< > 0: the learning rate counts times max(this, rms of w)
};

/// What a device must be able to do: one virtual function a kernel, the same file names in cpu/ and cuda/.
/// The ops check shapes, allocate y and call exactly one of these, so an implementation may rely on what is
/// said here. Activations and results are f32 on the CPU, on a GPU f32, f16 or bf16 but all of a call's
/// alike, unless said otherwise; weights `w` may be f32, f16 or bf16, those of linear and tables of rows
/// quantised too; norm parameters and biases may be f32, f16 or bf16. Sums are f32 at least. An undefined
/// tensor means "absent". x and y never overlap, unless a kernel says so. Results do not depend on the number
/// of threads.
class Kernels {
 public:
  virtual ~Kernels() = default;

  // memory
  /// y = x, converted to y's dtype. Any two dtypes except Bool targets; halves round to nearest even. Throws
  /// InvalidArgument if x is to be quantised and holds NaN, infinity or numbers beyond a scale in f16.
  virtual void convert(const Tensor& x, Tensor& y) = 0;
  virtual void fill(Tensor& y, float value) = 0;
  /// y[i_axes[0], i_axes[1], ..] = x[i_0, i_1, ..], any dtype.
  virtual void permute(const Tensor& x, std::span<const int> axes, Tensor& y) = 0;
  /// Joins xs along `axis`, any dtype; the other extents agree.
  virtual void concat(std::span<const Tensor> xs, int axis, Tensor& y) = 0;
  /// y = x[..., begin:begin+y.dim(axis), ...], any dtype.
  virtual void narrow(const Tensor& x, int axis, int64_t begin, Tensor& y) = 0;
  /// y[i,:] = table[ids[i],:]. table [V,D] f32/f16/bf16/quantised, ids i32 of any shape, within range.
  virtual void gather_rows(const Tensor& table, const Tensor& ids, Tensor& y) = 0;

  // elementwise
  virtual void unary(UnaryOp op, const Tensor& x, Tensor& y) = 0;
  /// NumPy broadcasting; y has the broadcast shape.
  virtual void binary(BinaryOp op, const Tensor& a, const Tensor& b, Tensor& y) = 0;
  /// y = x * scale + shift, as two rounded operations.
  virtual void affine(const Tensor& x, float scale, float shift, Tensor& y) = 0;
  virtual void clamp(const Tensor& x, float low, float high, Tensor& y) = 0;
  /// x [..,2D] -> y [..,D]: the first half times gelu(the second half).
  virtual void geglu(const Tensor& x, Tensor& y) = 0;

  // reductions
  /// Over the last axis.
  virtual void softmax(const Tensor& x, Tensor& y) = 0;
  /// x [N,..] -> mean [N] and variance [N] (divided by n - `correction`), summed in double.
  virtual void moments(const Tensor& x, int correction, Tensor& mean, Tensor& variance) = 0;
  /// Neither NaN nor infinity anywhere.
  virtual bool all_finite(const Tensor& x) = 0;
  /// x [..,D] -> the largest element of each row, value [..] and place i32 [..]: the first of equal ones.
  /// Rows of NaN give place 0.
  virtual void row_max(const Tensor& x, Tensor& value, Tensor& place) = 0;
  /// x [B,T,C], group i32 [B,T] within [0,M) -> y [B,M,C]: the mean of the rows of each group, summed in
  /// their order; 0 for a group without rows.
  virtual void group_mean(const Tensor& x, const Tensor& group, Tensor& y) = 0;
  /// x [..,D], table [K,D] f32/f16/bf16 -> place i32 [..]: the row of the table with the smallest sum of
  /// squared differences, the first of equal ones; 0 for rows of x with NaN.
  virtual void nearest_rows(const Tensor& x, const Tensor& table, Tensor& place) = 0;

  // norms
  /// Over the last axis; w and b [D].
  virtual void layer_norm(const Tensor& x, const Tensor& w, const Tensor& b, float eps, Tensor& y) = 0;
  /// x / rms(x) * w over the last axis.
  virtual void rms_norm(const Tensor& x, const Tensor& w, float eps, Tensor& y) = 0;
  /// x [N,..,C] in `groups` groups of neighbouring channels; w and b [C]; then the activation.
  virtual void group_norm(const Tensor& x, int groups, const Tensor& w, const Tensor& b, float eps,
                          Activation activation, Tensor& y) = 0;

  // products
  /// y [..,O] = activation(x [..,I] * w [O,I]^T + bias [O] + add [..,O]); bias and add may be absent.
  virtual void linear(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& add,
                      Activation activation, Tensor& y) = 0;
  /// y [B,M,N] = alpha * a * b; a is [B,M,K], or [B,K,M] if Left, b is [B,K,N], or [B,N,K] if Right; all f32.
  virtual void matmul(const Tensor& a, const Tensor& b, Transpose transpose, float alpha, Tensor& y) = 0;
  /// y [N,OH,OW,O] = activation(x [N,H,W,I] (*) w [O,I,KH,KW] + bias [O] + add); add is [N,OH,OW,O], or [N,O]
  /// for every pixel of an image alike; bias and add may be absent.
  virtual void conv2d(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& add,
                      const Conv2dOptions& options, Activation activation, Tensor& y) = 0;
  /// y [B,T,H*D] = softmax(scale * q k^T + bias) v per head; q [B,T,H*D], k and v [B,S,H*D]; heads are
  /// neighbouring runs of D channels; bias, if present, is [1 or B, 1 or H, T, S]. Never holds a T x S
  /// matrix.
  virtual void attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& bias,
                         const AttentionOptions& options, Tensor& y) = 0;

  // gradients: what reaches an op's input, given x or y of its forward pass and dy. Those of activations have
  // their type; dw, db and dtable are f32, whatever w is
  /// dx = dy f'(x); 0 where f has a corner (relu and abs at 0).
  virtual void unary_backward(UnaryOp op, const Tensor& x, const Tensor& dy, Tensor& dx) = 0;
  /// dx = dy where low <= x <= high, 0 elsewhere.
  virtual void clamp_backward(const Tensor& x, float low, float high, const Tensor& dy, Tensor& dx) = 0;
  virtual void geglu_backward(const Tensor& x, const Tensor& dy, Tensor& dx) = 0;
  virtual void softmax_backward(const Tensor& y, const Tensor& dy, Tensor& dx) = 0;
  /// x [A,R,B] -> y [A,B]: summed over R, in an order that depends on the shape alone.
  virtual void sum_middle(const Tensor& x, Tensor& y) = 0;
  /// dtable [V,D] = the sums of those rows of dy [..,D] whose id, i32 within [0,V), is the row's; in their
  /// order.
  virtual void sum_rows(const Tensor& dy, const Tensor& ids, Tensor& dtable) = 0;
  /// Of layer_norm, and of rms_norm, which has no b; w and dw, b and db may be absent.
  virtual void layer_norm_backward(const Tensor& x, const Tensor& w, float eps, const Tensor& dy, Tensor& dx,
                                   Tensor& dw, Tensor& db) = 0;
  virtual void rms_norm_backward(const Tensor& x, const Tensor& w, float eps, const Tensor& dy, Tensor& dx,
                                 Tensor& dw) = 0;
  /// Of group_norm without an activation; w, dw and db may be absent.
  virtual void group_norm_backward(const Tensor& x, int groups, const Tensor& w, float eps, const Tensor& dy,
                                   Tensor& dx, Tensor& dw, Tensor& db) = 0;
  /// dx [N,H,W,I] from dy [N,OH,OW,O] and w [O,I,KH,KW].
  virtual void conv2d_backward_input(const Tensor& dy, const Tensor& w, const Conv2dOptions& options,
                                     Tensor& dx) = 0;
  /// dw [O,I,KH,KW] from x [N,H,W,I] and dy [N,OH,OW,O].
  virtual void conv2d_backward_weight(const Tensor& x, const Tensor& dy, const Conv2dOptions& options,
                                      Tensor& dw) = 0;
  /// dq [B,T,H*D], dk and dv [B,S,H*D] from the inputs and y of attention. Never holds a T x S matrix.
  virtual void attention_backward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& bias,
                                  const AttentionOptions& options, const Tensor& y, const Tensor& dy,
                                  Tensor& dq, Tensor& dk, Tensor& dv) = 0;

  // pictures and positions
  /// x [N,H,W,C] -> y [N,OH,OW,C]; pixel centres at half, edges clamped; with `antialias` the filter widens
  /// when shrinking (PyTorch's interpolate(align_corners=False)).
  virtual void resize(const Tensor& x, ResizeFilter filter, bool antialias, Tensor& y) = 0;
  /// t [N] -> y [N,D]: cos and sin of t * max_period^(-i / (D/2 - shift)), cosines first if `cos_first`.
  virtual void timestep_embedding(const Tensor& t, bool cos_first, float shift, float max_period,
                                  Tensor& y) = 0;

  // training; every tensor f32 and of one shape, unless said otherwise
  /// y += scale * x.
  virtual void add_scaled(const Tensor& x, float scale, Tensor& y) = 0;
  /// y -= weight * (y - x).
  virtual void blend(const Tensor& x, float weight, Tensor& y) = 0;
  /// The sum of the squares, in double.
  virtual double sum_of_squares(const Tensor& x) = 0;
  /// One step of an optimizer for one parameter. `w` is what is trained; `stored`, f16 or bf16, becomes w
  /// rounded, and is absent where the model computes with w itself.
  /// Loshchilov and Hutter 2019 as torch.optim.AdamW: m and v are the means of the gradient and its square.
  virtual void adamw(const OptimizerStep& step, const AdamwConstants& constants, const Tensor& gradient,
                     Tensor& w, Tensor& m, Tensor& v, Tensor& stored) = 0;
  /// Chen et al. 2023: m is the mean of the gradient.
  virtual void lion(const OptimizerStep& step, const LionConstants& constants, const Tensor& gradient,
                    Tensor& w, Tensor& m, Tensor& stored) = 0;
  /// Shazeer and Stern 2018 as transformers' Adafactor, for w [..,R,C]: rows [..,R] and columns [..,C] are
  /// means of the squared gradient over the other axis. Without columns, rows has w's shape and is not
  /// factored. m, the mean update, may be absent.
  virtual void adafactor(const OptimizerStep& step, const AdafactorConstants& constants,
                         const Tensor& gradient, Tensor& w, Tensor& rows, Tensor& columns, Tensor& m,
                         Tensor& stored) = 0;
};

/// The kernels of a device. Throws Unsupported if this build has none for it.
Kernels& kernels(Device device);

Kernels& cpu_kernels();
/// Of the GPU with this number; the stub's throws Unsupported.
Kernels& cuda_kernels(int index);

}  // namespace sinopia
