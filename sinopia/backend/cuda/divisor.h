#pragma once

#include <cstdint>

#include <cuda_runtime.h>

namespace sinopia::cuda {

/// Divides by a number that the host knows: numbers below 2^31 by a product and a shift, larger ones slowly.
/// After Granlund and Montgomery 1994.
class Divisor {
 public:
  Divisor() = default;
  explicit Divisor(int64_t divisor) : divisor_(divisor) {
    if (divisor >= kNarrow) return;
    while ((int64_t{1} << shift_) < divisor) ++shift_;
    const uint64_t power = uint64_t{1} << shift_, d = static_cast<uint64_t>(divisor);
    factor_ = static_cast<uint32_t>(((power - d) << 32) / d + 1);
  }

  __device__ int64_t quotient(int64_t n) const {
    if (n >= kNarrow) return n / divisor_;
    if (divisor_ >= kNarrow) return 0;
    const auto narrow = static_cast<uint32_t>(n);
    return (__umulhi(narrow, factor_) + narrow) >> shift_;
  }
  __device__ int64_t remainder(int64_t n) const { return n - quotient(n) * divisor_; }
  /// n = its remainder; gives the quotient.
  __device__ int64_t divide(int64_t& n) const {
    const int64_t q = quotient(n);
    n -= q * divisor_;
    return q;
  }

 private:
  static constexpr int64_t kNarrow = int64_t{1} << 31;

  int64_t divisor_ = 1;
  uint32_t factor_ = 1, shift_ = 0;
};

}  // namespace sinopia::cuda
