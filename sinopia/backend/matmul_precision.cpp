#include "sinopia/backend/matmul_precision.h"

#include <atomic>

#include "sinopia/backend/cpu/onednn.h"
#include "sinopia/base/error.h"

namespace sinopia {
namespace {

std::atomic<MatmulPrecision> chosen_precision{MatmulPrecision::F32};
std::atomic<int64_t> rounded{0};

}  // namespace

void set_matmul_precision(MatmulPrecision precision) {
  const std::string_view missing = onednn_needs(precision);
  SINOPIA_CHECK(missing.empty(), Unsupported, "[matmul_precision] {} needs {}; use f32",
                kMatmulPrecisionNames[static_cast<size_t>(precision)], missing);
  chosen_precision = precision;
}

MatmulPrecision matmul_precision() { return chosen_precision; }

int64_t rounded_matmuls() { return rounded; }

void count_rounded_matmul() { ++rounded; }

}  // namespace sinopia
