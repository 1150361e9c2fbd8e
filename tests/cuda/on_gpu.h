#pragma once

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "sinopia/backend/devices.h"
#include "sinopia/backend/kernels.h"
#include "sinopia/ops/shape.h"
#include "tests/kind_of.h"
#include "tests/reference.h"

// The tests in this folder run on a GPU, and on the emulated one of tests/cuda_emulation. Without either they
// are skipped, with the reason; they never pass without having run.

namespace sinopia::testing {

/// A test on the first GPU, with tensors there as f32, f16 or bf16.
class OnGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string obstacle = gpu_obstacle();
    if (!obstacle.empty()) GTEST_SKIP() << "no device: " << obstacle;
    gpu_ = open_device("cuda");
  }

  Kernels& gpu() const { return kernels(gpu_); }
  Device device() const { return gpu_; }

  /// x rounded to `dtype`, there; an absent tensor stays absent.
  Tensor there(const Tensor& x, DType dtype = DType::F32) const {
    return x ? copy_to(x.dtype() == DType::F32 ? to_dtype(x, dtype) : x, gpu_) : x;
  }
  Tensor empty(const Shape& shape, DType dtype = DType::F32) const {
    return Tensor::empty(shape, dtype, gpu_);
  }

 private:
  Device gpu_;
};

/// On the CPU, in f32 if it is f16 or bf16.
inline Tensor back(const Tensor& x) {
  const Tensor here = copy_to(x, Device{});
  return here.dtype() == DType::F16 || here.dtype() == DType::BF16 ? to_dtype(here, DType::F32) : here;
}

/// Half a unit in the last place of 1: the relative error of one rounding.
inline double epsilon_of(DType dtype) {
  return dtype == DType::F16 ? 0x1p-11 : dtype == DType::BF16 ? 0x1p-8 : 0x1p-24;
}

/// x as it is once rounded to `dtype`, in f32.
inline Tensor rounded_to(const Tensor& x, DType dtype) { return to_dtype(to_dtype(x, dtype), DType::F32); }

inline const std::vector<DType> kFloats{DType::F32, DType::F16, DType::BF16};

}  // namespace sinopia::testing
