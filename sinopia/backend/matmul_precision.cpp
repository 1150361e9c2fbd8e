#include "sinopia/backend/matmul_precision.h"

#include <atomic>

#include "sinopia/backend/cpu/onednn.h"
#include "sinopia/backend/cuda_device.h"
#include "sinopia/base/error.h"

namespace sinopia {
namespace {

std::atomic<MatmulPrecision> chosen_precision{MatmulPrecision::F32};
std::atomic<int64_t> rounded{0};

}  // namespace

void set_matmul_precision(MatmulPrecision precision) {
  const bool on_gpu = precision == MatmulPrecision::TF32;
  const std::string_view missing = !on_gpu             ? onednn_needs(precision)
                                   : built_with_cuda() ? std::string_view()
                                                       : "a build with CUDA (make CUDA=90a)";
  SINOPIA_CHECK(missing.empty(), Unsupported, "[matmul_precision] {} needs {}; use f32",
                kMatmulPrecisionNames[static_cast<size_t>(precision)], missing);
  set_cuda_tf32(on_gpu);
  chosen_precision = precision;
}

MatmulPrecision matmul_precision() { return chosen_precision; }

int64_t rounded_matmuls() { return rounded; }

void count_rounded_matmul() { ++rounded; }

}  // namespace sinopia
