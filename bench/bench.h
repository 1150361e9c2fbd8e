#pragma once

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "bench/random_tensor.h"
#include "sinopia/backend/kernels.h"

namespace sinopia::bench {

/// One way to do a case's work: `run` fills `y`.
struct Contender {
  std::string name;
  std::function<void()> run;
  Tensor y;
};

/// A case with its tensors in memory. The first contender is ours.
struct Prepared {
  std::vector<Contender> contenders;
  /// Element i of y in double, from plain loops; the error allowed is `tolerance` times the second member.
  struct Value {
    double value, magnitude;
    void add(double term) {
      value += term;
      magnitude += std::abs(term);
    }
  };
  std::function<Value(int64_t i)> reference;
  double tolerance = 1e-6;
};

/// Work of a real model: `flops` are 2 a multiply-add; `bytes` is what must be read and written at least.
struct Case {
  std::string family, name;
  double flops, bytes;
  std::function<Prepared()> prepare;
};

void add_convolutions(std::vector<Case>& cases);
void add_linears(std::vector<Case>& cases);
void add_attentions(std::vector<Case>& cases);
void add_memory_bound(std::vector<Case>& cases);
void add_optimizers(std::vector<Case>& cases);

/// Element i of an f32, f16 or bf16 tensor.
double element(const Tensor& x, int64_t i);

/// Seconds of the clock that cases are timed by.
double now();

/// What this machine does with nothing in its way, on the threads that the library uses.
double measure_fma_flops();
double measure_copy_bytes();

/// oneDNN on the same work, where this build has it: weights laid out beforehand, and from [O,I,KH,KW] each
/// time.
std::vector<Contender> onednn_conv2d(const Tensor& x, const Tensor& w, const Tensor& bias,
                                     const Conv2dOptions& options, const Shape& y);
std::vector<Contender> onednn_linear(const Tensor& x, const Tensor& w, const Tensor& bias);
std::vector<Contender> onednn_matmul(const Tensor& a, const Tensor& b, bool transpose_b);

}  // namespace sinopia::bench
