#pragma once

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "sinopia/backend/kernels.h"
#include "sinopia/base/half.h"
#include "sinopia/base/threads.h"
#include "tests/instruction_sets.h"

namespace sinopia::testing {

/// Expects the same bits in y from `run` with 1, 2 and 3 threads.
template <class Run>
void expect_same_bits_on_any_threads(const Run& run) {
  std::vector<float> first;
  for (int threads : {1, 2, 3}) {
    set_thread_count(threads);
    const Tensor y = run();
    if (first.empty()) {
      first = y.to_vector<float>();
    } else {
      EXPECT_EQ(0, std::memcmp(first.data(), y.raw(), y.bytes())) << threads << " threads";
    }
  }
  set_thread_count(0);
}

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}
  /// Normal values, stored as f32, f16 or bf16.
  Tensor normal(const Shape& shape, float scale = 1, DType dtype = DType::F32) {
    std::normal_distribution<float> normal(0, scale);
    std::vector<float> values(shape.numel());
    for (float& v : values) v = normal(engine_);
    if (dtype == DType::F32) return Tensor::from(shape, values);
    if (dtype == DType::F16) {
      std::vector<Half> halves;
      for (float v : values) halves.push_back(to_half(v));
      return Tensor::from(shape, halves);
    }
    std::vector<BFloat16> halves;
    for (float v : values) halves.push_back(to_bfloat16(v));
    return Tensor::from(shape, halves);
  }
  int64_t integer(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(engine_);
  }

 private:
  std::mt19937 engine_;
};

/// The elements as doubles; none for an absent tensor.
inline std::vector<double> doubles(const Tensor& x) {
  std::vector<double> out;
  if (!x) return out;
  for (int64_t i = 0; i < x.numel(); ++i) {
    switch (x.dtype()) {
      case DType::F16:
        out.push_back(to_float(x.data<Half>()[i]));
        break;
      case DType::BF16:
        out.push_back(to_float(x.data<BFloat16>()[i]));
        break;
      default:
        out.push_back(x.data<float>()[i]);
    }
  }
  return out;
}

inline double reference_activation(Activation activation, double x) {
  switch (activation) {
    case Activation::None:
      return x;
    case Activation::Silu:
      return x / (1 + std::exp(-x));
    case Activation::Gelu:
      return x * 0.5 * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::GeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::QuickGelu:
      return x / (1 + std::exp(-1.702 * x));
    case Activation::Relu:
      return x > 0 ? x : 0;
    case Activation::Tanh:
      return std::tanh(x);
    case Activation::Sigmoid:
      return 1 / (1 + std::exp(-x));
  }
  return x;
}

inline constexpr Activation kActivations[] = {Activation::None,     Activation::Silu,      Activation::Gelu,
                                              Activation::GeluTanh, Activation::QuickGelu, Activation::Relu,
                                              Activation::Tanh,     Activation::Sigmoid};
inline constexpr DType kWeightTypes[] = {DType::F32, DType::F16, DType::BF16};

/// A sum of products in double, and the sum of their magnitudes, which scales its rounding error.
struct Sum {
  double value = 0, magnitude = 0;
  void add(double x) {
    value += x;
    magnitude += std::abs(x);
  }
};

/// |y - reference| stays within a few rounding errors of the terms that were summed. No activation is steeper
/// than 1.2.
inline void expect_products_near(const Tensor& y, const std::vector<Sum>& sums, Activation activation) {
  ASSERT_EQ(static_cast<size_t>(y.numel()), sums.size());
  double worst = 0;
  int64_t at = 0;
  for (int64_t i = 0; i < y.numel(); ++i) {
    const double reference = reference_activation(activation, sums[i].value);
    const double error = std::abs(y.data<float>()[i] - reference);
    const double ratio = error / (4e-7 * sums[i].magnitude + 4e-7 * std::abs(reference) + 1e-37);
    if (!(ratio <= worst)) worst = ratio, at = i;
  }
  EXPECT_LE(worst, 1) << "at " << at << " of " << to_string(y.shape()) << ": " << y.data<float>()[at]
                      << " for " << reference_activation(activation, sums[at].value);
}

}  // namespace sinopia::testing
