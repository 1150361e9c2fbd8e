#include "sinopia/backend/cpu/cpu_kernels.h"
#include "sinopia/backend/cpu/gemm.h"
#include "sinopia/base/threads.h"

namespace sinopia {

void CpuKernels::matmul(const Tensor& a, const Tensor& b, Transpose transpose, float alpha, Tensor& y) {
  const bool left = transpose == Transpose::Left;
  const int64_t batch = y.dim(0), M = y.dim(1), N = y.dim(2), K = a.dim(left ? 1 : 2);
  const float* a_data = a.data<float>();
  const float* b_data = b.data<float>();
  float* y_data = y.data<float>();
  const auto one = [&](int64_t i) {
    GemmProblem p;
    p.m = M;
    p.n = N;
    p.k = K;
    p.x = a_data + i * M * K;
    p.w = b_data + i * N * K;
    p.w_is_kn = transpose != Transpose::Right;
    p.x_is_km = left;
    p.alpha = alpha;
    p.y = y_data + i * M * N;
    gemm(p);
  };
  // Many small products keep the threads busier one each; a nested gemm runs on one thread.
  if (batch >= 4 * thread_count()) {
    parallel_for(batch, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) one(i);
    });
  } else {
    for (int64_t i = 0; i < batch; ++i) one(i);
  }
}

}  // namespace sinopia
