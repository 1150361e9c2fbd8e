#pragma once

#include <string_view>

#include "sinopia/tensor/tensor.h"

namespace sinopia::checks {

// What the ops ask of their arguments. `op` and `name` are for the message: "[conv2d] expected ...".

/// A present tensor to compute with: f32, or f16 / bf16 on a device that computes in them.
inline void activation(std::string_view op, std::string_view name, const Tensor& x) {
  const bool is_half = x.dtype() == DType::F16 || x.dtype() == DType::BF16;
  const bool is_float = x.dtype() == DType::F32 || (is_half && !x.device().is_cpu());
  SINOPIA_CHECK(x.defined() && is_float, InvalidArgument, "[{}] expected f32 {}, got {}", op, name,
                describe(x));
}

inline void same_device(std::string_view op, std::string_view name, const Tensor& a, const Tensor& x) {
  SINOPIA_CHECK(a.device() == x.device(), InvalidArgument, "[{}] expected {} on {}, got it on {}", op, name,
                to_string(x.device()), to_string(a.device()));
}

/// A present parameter on x's device: f32, f16 or bf16.
inline void weight(std::string_view op, std::string_view name, const Tensor& w, const Tensor& x) {
  const bool is_float = w.dtype() == DType::F32 || w.dtype() == DType::F16 || w.dtype() == DType::BF16;
  SINOPIA_CHECK(w.defined() && is_float, InvalidArgument, "[{}] expected {} in f32, f16 or bf16, got {}", op,
                name, describe(w));
  same_device(op, name, w, x);
}

inline void rank(std::string_view op, std::string_view name, const Tensor& x, int rank) {
  SINOPIA_CHECK(x.rank() == rank, InvalidArgument, "[{}] expected {} with {} axes, got {}={}", op, name, rank,
                name, to_string(x.shape()));
}

/// A present parameter [O,I] on x's device, which may be quantised.
inline void matrix(std::string_view op, std::string_view name, const Tensor& w, const Tensor& x) {
  if (is_quantised(w.dtype())) {
    same_device(op, name, w, x);
  } else {
    weight(op, name, w, x);
  }
  rank(op, name, w, 2);
}

/// An operand beside x, on x's device and of its type.
inline void operand(std::string_view op, std::string_view name, const Tensor& a, const Tensor& x) {
  activation(op, name, a);
  same_device(op, name, a, x);
  SINOPIA_CHECK(a.dtype() == x.dtype(), InvalidArgument, "[{}] expected {} in {}, got {}", op, name,
                to_string(x.dtype()), describe(a));
}

/// A parameter that may be absent, a vector of `count` numbers.
inline void optional_vector(std::string_view op, std::string_view name, const Tensor& w, int64_t count,
                            const Tensor& x) {
  if (!w.defined()) return;
  weight(op, name, w, x);
  SINOPIA_CHECK(w.shape() == Shape{count}, InvalidArgument, "[{}] expected {}=[{}], got {} (x={})", op, name,
                count, to_string(w.shape()), to_string(x.shape()));
}

inline void rank_at_least(std::string_view op, const Tensor& x, int rank) {
  SINOPIA_CHECK(x.rank() >= rank, InvalidArgument, "[{}] expected x with at least {} axes, got x={}", op,
                rank, to_string(x.shape()));
}

}  // namespace sinopia::checks
