#include <cmath>

#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/backend/cuda/elements.h"
#include "sinopia/backend/cuda/runtime.h"

namespace sinopia {
namespace cuda {
namespace {

/// The exponential, cosine and sine are rounded from double, which is what the CPU's come to: at t = 1000 the
/// last bit of a frequency is worth 6e-5.
template <class T, class Y>
__global__ void embed(const T* t, int64_t count, int64_t D, bool cos_first, float log_period, float divisor,
                      Y* y) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t half = D / 2, pairs = half + D % 2;  // the last of an odd D is a zero of its own
  if (at >= count * pairs) return;
  const int64_t n = at / pairs, i = at % pairs;
  Y* row = y + n * D;
  if (i == half) {
    row[D - 1] = narrow_to<Y>(0.0f);
    return;
  }
  const float exponent = log_period * static_cast<float>(i) / divisor;
  const float angle = widen(t[n]) * static_cast<float>(exp(static_cast<double>(exponent)));
  const auto cosine = static_cast<float>(cos(static_cast<double>(angle))),
             sine = static_cast<float>(sin(static_cast<double>(angle)));
  row[i] = narrow_to<Y>(cos_first ? cosine : sine);
  row[half + i] = narrow_to<Y>(cos_first ? sine : cosine);
}

}  // namespace
}  // namespace cuda

void CudaKernels::timestep_embedding(const Tensor& t, bool cos_first, float shift, float max_period,
                                     Tensor& y) {
  using namespace cuda;
  const int64_t count = t.numel(), D = y.dim(1), half = D / 2;
  const auto log_period = static_cast<float>(-std::log(static_cast<double>(max_period)));
  const auto divisor = static_cast<float>(static_cast<double>(half) - static_cast<double>(shift));
  constexpr int64_t kThreads = 128;
  const dim3 grid(static_cast<unsigned>(ceil_div(count * (half + D % 2), kThreads)));
  for_float(t.dtype(), [&](auto from) {
    for_float(y.dtype(), [&](auto to) {
      using T = decltype(from);
      using Y = decltype(to);
      launch(embed<T, Y>, grid, dim3(kThreads), 0, static_cast<const T*>(t.raw()), count, D, cos_first,
             log_period, divisor, static_cast<Y*>(y.raw()));
    });
  });
}

}  // namespace sinopia
