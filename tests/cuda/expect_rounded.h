#pragma once

#include <limits>

#include "tests/cuda/on_gpu.h"

namespace sinopia::testing {

/// `got`, in f32, is `expected` rounded once to `dtype` after a computation in f32 with a relative error of
/// `relative`; or it is off by at most `absolute`. NaN and infinities are where they should be.
inline void expect_rounded(const Tensor& got, const Tensor& expected, DType dtype, double relative = 0,
                           double absolute = 0) {
  ASSERT_EQ(got.shape(), expected.shape());
  const Tensor rounded = rounded_to(expected, dtype);
  std::vector<double> values = doubles(expected);
  for (size_t i = 0; i < values.size(); ++i) {  // beyond the dtype's range
    const auto limit = static_cast<double>(rounded.data<float>()[i]);
    if (std::isinf(limit)) values[i] = limit;
  }
  const double epsilon = dtype == DType::F32 ? 0 : epsilon_of(dtype);
  const double subnormal = dtype == DType::F16 ? 0x1p-25 : dtype == DType::BF16 ? 0x1p-134 : 0;
  expect_close(got, values, absolute + subnormal, relative + epsilon);
}

/// The same elements, whose first does not lie at a multiple of 16 bytes.
inline Tensor misaligned(const Tensor& x) {
  const int64_t n = x.numel();
  const Tensor wide = Tensor::empty({n + 1}, x.dtype(), x.device());
  Tensor view = wide.slice(1, n + 1).reshape(x.shape());
  kernels(x.device()).convert(x, view);
  return view;
}

/// Uninitialised, misaligned.
inline Tensor misaligned_like(const Tensor& x) {
  return Tensor::empty({x.numel() + 1}, x.dtype(), x.device()).slice(1, x.numel() + 1).reshape(x.shape());
}

/// A tensor within a larger one, to see whether a kernel writes beside it.
class Guarded {
 public:
  Guarded(const Shape& shape, DType dtype, Device device)
      : whole_(Tensor::empty({shape.numel() + 2 * kGuard}, dtype, device)),
        inside_(whole_.slice(kGuard, kGuard + shape.numel()).reshape(shape)) {
    kernels(device).fill(whole_, 7);
  }
  Tensor& tensor() { return inside_; }
  /// Nothing around it has changed.
  void check() const {
    const int64_t n = whole_.numel();
    for (const Tensor& side : {whole_.slice(0, kGuard), whole_.slice(n - kGuard, n)}) {
      const Tensor here = copy_to(side, Device{});
      Tensor expected = empty_like(here);
      cpu_kernels().fill(expected, 7);
      EXPECT_TRUE(same_bits(here, expected)) << "written to beside the tensor";
    }
  }

 private:
  static constexpr int64_t kGuard = 16;  ///< elements, a multiple of 16 bytes
  Tensor whole_, inside_;
};

/// Random numbers with those among them that need care.
inline Tensor with_special_values(const Shape& shape, unsigned seed, float scale) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::vector<float> special{NAN,    kInfinity, -kInfinity, 0.0f,    -0.0f, 1.0f,   -1.0f,
                                   88.5f,  -88.0f,    -100.0f,    100.0f,  89.5f, 0.6f,   -0.63f,
                                   1e-30f, -1e-30f,   3e-40f,     -3e-40f, 3e38f, -3e38f, 1e-4f};
  Tensor x = random_tensor(shape, seed, scale);
  const auto n = static_cast<size_t>(x.numel());
  for (size_t i = 0; i < special.size(); ++i)
    if (n > 0) x.data<float>()[i * 3 % n] = special[i];
  return x;
}

}  // namespace sinopia::testing
