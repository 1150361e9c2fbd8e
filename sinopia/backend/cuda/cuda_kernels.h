#pragma once

#include "sinopia/backend/kernels.h"

namespace sinopia {

/// The kernels of one GPU. Each family is defined in the file of its name beside this one, as in cpu/. All
/// are queued on the device's stream and return at once, but for those that return a number.
class CudaKernels final : public Kernels {
 public:
  // memory
  void convert(const Tensor& x, Tensor& y) override;
  void fill(Tensor& y, float value) override;
  void permute(const Tensor& x, std::span<const int> axes, Tensor& y) override;
  void concat(std::span<const Tensor> xs, int axis, Tensor& y) override;
  void narrow(const Tensor& x, int axis, int64_t begin, Tensor& y) override;
  void gather_rows(const Tensor& table, const Tensor& ids, Tensor& y) override;

  // elementwise
  void unary(UnaryOp op, const Tensor& x, Tensor& y) override;
  void binary(BinaryOp op, const Tensor& a, const Tensor& b, Tensor& y) override;
  void affine(const Tensor& x, float scale, float shift, Tensor& y) override;
  void clamp(const Tensor& x, float low, float high, Tensor& y) override;
  void geglu(const Tensor& x, Tensor& y) override;

  // reductions
  void softmax(const Tensor& x, Tensor& y) override;
  void moments(const Tensor& x, int correction, Tensor& mean, Tensor& variance) override;
  bool all_finite(const Tensor& x) override;
  void row_max(const Tensor& x, Tensor& value, Tensor& place) override;
  void group_mean(const Tensor& x, const Tensor& group, Tensor& y) override;
  void nearest_rows(const Tensor& x, const Tensor& table, Tensor& place) override;

  // norms
  void layer_norm(const Tensor& x, const Tensor& w, const Tensor& b, float eps, Tensor& y) override;
  void rms_norm(const Tensor& x, const Tensor& w, float eps, Tensor& y) override;
  void group_norm(const Tensor& x, int groups, const Tensor& w, const Tensor& b, float eps,
                  Activation activation, Tensor& y) override;

  // products
  void linear(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& add, Activation activation,
              Tensor& y) override;
  void matmul(const Tensor& a, const Tensor& b, Transpose transpose, float alpha, Tensor& y) override;
  void conv2d(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& add,
              const Conv2dOptions& options, Activation activation, Tensor& y) override;
  void attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& bias,
                 const AttentionOptions& options, Tensor& y) override;

  // gradients
  void unary_backward(UnaryOp op, const Tensor& x, const Tensor& dy, Tensor& dx) override;
  void clamp_backward(const Tensor& x, float low, float high, const Tensor& dy, Tensor& dx) override;
  void geglu_backward(const Tensor& x, const Tensor& dy, Tensor& dx) override;
  void softmax_backward(const Tensor& y, const Tensor& dy, Tensor& dx) override;
  void sum_middle(const Tensor& x, Tensor& y) override;
  void sum_rows(const Tensor& dy, const Tensor& ids, Tensor& dtable) override;
  void layer_norm_backward(const Tensor& x, const Tensor& w, float eps, const Tensor& dy, Tensor& dx,
                           Tensor& dw, Tensor& db) override;
  void rms_norm_backward(const Tensor& x, const Tensor& w, float eps, const Tensor& dy, Tensor& dx,
                         Tensor& dw) override;
  void group_norm_backward(const Tensor& x, int groups, const Tensor& w, float eps, const Tensor& dy,
                           Tensor& dx, Tensor& dw, Tensor& db) override;
  void conv2d_backward_input(const Tensor& dy, const Tensor& w, const Conv2dOptions& options,
                             Tensor& dx) override;
  void conv2d_backward_weight(const Tensor& x, const Tensor& dy, const Conv2dOptions& options,
                              Tensor& dw) override;
  void attention_backward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& bias,
                          const AttentionOptions& options, const Tensor& y, const Tensor& dy, Tensor& dq,
                          Tensor& dk, Tensor& dv) override;

  // pictures and positions
  void resize(const Tensor& x, ResizeFilter filter, bool antialias, Tensor& y) override;
  void timestep_embedding(const Tensor& t, bool cos_first, float shift, float max_period, Tensor& y) override;

  // training
  void add_scaled(const Tensor& x, float scale, Tensor& y) override;
  void blend(const Tensor& x, float weight, Tensor& y) override;
  double sum_of_squares(const Tensor& x) override;
  void adamw(const OptimizerStep& step, const AdamwConstants& constants, const Tensor& gradient, Tensor& w,
             Tensor& m, Tensor& v, Tensor& stored) override;
  void lion(const OptimizerStep& step, const LionConstants& constants, const Tensor& gradient, Tensor& w,
            Tensor& m, Tensor& stored) override;
  void adafactor(const OptimizerStep& step, const AdafactorConstants& constants, const Tensor& gradient,
                 Tensor& w, Tensor& rows, Tensor& columns, Tensor& m, Tensor& stored) override;
};

}  // namespace sinopia
