#pragma once

#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sinopia/base/error.h"
#include "sinopia/base/threads.h"
#include "sinopia/tensor/tensor.h"

namespace sinopia::testing {

inline constexpr double kEpsilon = 0x1p-24;  ///< half an ulp of f32 at 1

/// Normal numbers, the same for the same seed.
inline Tensor random_tensor(const Shape& shape, unsigned seed, float scale = 1, float mean = 0) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(mean, scale);
  std::vector<float> values(static_cast<size_t>(shape.numel()));
  for (float& v : values) v = normal(engine);
  return Tensor::from(shape, values);
}

/// x rounded to f16 or bf16 one by one.
inline Tensor stored_as(const Tensor& x, DType dtype) {
  Tensor y = Tensor::empty(x.shape(), dtype);
  for (int64_t i = 0; i < x.numel(); ++i) {
    const float v = x.data<float>()[i];
    if (dtype == DType::F32) y.data<float>()[i] = v;
    if (dtype == DType::F16) y.data<Half>()[i] = to_half(v);
    if (dtype == DType::BF16) y.data<BFloat16>()[i] = to_bfloat16(v);
  }
  return y;
}

/// The elements of an f32, f16 or bf16 tensor in double.
inline std::vector<double> doubles(const Tensor& x) {
  std::vector<double> result(static_cast<size_t>(x.numel()));
  for (size_t i = 0; i < result.size(); ++i) {
    if (x.dtype() == DType::F32) result[i] = static_cast<double>(x.data<float>()[i]);
    if (x.dtype() == DType::F16) result[i] = static_cast<double>(to_float(x.data<Half>()[i]));
    if (x.dtype() == DType::BF16) result[i] = static_cast<double>(to_float(x.data<BFloat16>()[i]));
  }
  return result;
}

/// Each |got - expected| <= absolute + relative * |expected|; NaN only where NaN is expected.
inline void expect_close(const Tensor& got, const std::vector<double>& expected, double absolute,
                         double relative) {
  ASSERT_EQ(static_cast<size_t>(got.numel()), expected.size());
  const std::vector<double> values = doubles(got);
  int failures = 0;
  for (size_t i = 0; i < values.size() && failures < 5; ++i) {
    const bool same = std::isnan(expected[i]) ? std::isnan(values[i])
                      : std::isinf(expected[i])
                          ? values[i] == expected[i]
                          : std::abs(values[i] - expected[i]) <= absolute + relative * std::abs(expected[i]);
    if (same) continue;
    ++failures;
    ADD_FAILURE() << "at " << i << " of " << to_string(got.shape()) << ": expected " << expected[i]
                  << ", got " << values[i] << ", difference " << values[i] - expected[i];
  }
}

inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() &&
         (a.bytes() == 0 || std::memcmp(a.raw(), b.raw(), a.bytes()) == 0);
}

/// The result of `compute` has the same bits for 1, 2, 3 and 7 threads.
inline void expect_same_for_any_thread_count(const std::function<Tensor()>& compute) {
  set_thread_count(1);
  const Tensor expected = compute();
  for (int threads : {2, 3, 7}) {
    set_thread_count(threads);
    EXPECT_TRUE(same_bits(compute(), expected)) << threads << " threads";
  }
  set_thread_count(0);
}

/// `call` throws Error of this kind with `text` in its message.
inline void expect_error(ErrorKind kind, const std::string& text, const std::function<void()>& call) {
  try {
    call();
    ADD_FAILURE() << "expected an error with \"" << text << "\"";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), kind) << e.what();
    EXPECT_THAT(e.what(), ::testing::HasSubstr(text));
  }
}

}  // namespace sinopia::testing
