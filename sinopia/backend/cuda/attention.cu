#include <cmath>
#include <limits>

#include "sinopia/backend/cuda/attention.h"
#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/backend/cuda/elements.h"
#include "sinopia/base/error.h"

namespace sinopia {

void CudaKernels::attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& bias,
                            const AttentionOptions& options, Tensor& y) {
  constexpr int64_t kMost = std::numeric_limits<int>::max() / 2;
  const int64_t columns = q.dim(2) / options.heads;
  SINOPIA_CHECK(columns <= cuda::kMostAttentionColumns, Unsupported,
                "[cuda] expected attention heads of at most {} channels, got {}", cuda::kMostAttentionColumns,
                columns);
  SINOPIA_CHECK(q.dim(1) <= kMost && k.dim(1) <= kMost, Unsupported,
                "[cuda] expected attention over at most {} tokens, got {} and {}", kMost, q.dim(1), k.dim(1));
  if (y.numel() == 0) return;
  if (k.dim(1) == 0) return fill(y, 0);
  cuda::for_float(q.dtype(), [&]<class T>(T) {
    cuda::AttentionProblem<T> p{};
    p.q = static_cast<const T*>(q.raw());
    p.k = static_cast<const T*>(k.raw());
    p.v = static_cast<const T*>(v.raw());
    p.batch = q.dim(0);
    p.heads = options.heads;
    p.queries = static_cast<int>(q.dim(1));
    p.keys = static_cast<int>(k.dim(1));
    p.columns = static_cast<int>(columns);
    const double scale = options.scale != 0 ? options.scale : 1 / std::sqrt(static_cast<double>(columns));
    p.scale = static_cast<float>(scale * 1.4426950408889634);
    p.causal = options.causal;
    p.y = static_cast<T*>(y.raw());
    if (bias) {
      const int64_t matrix = q.dim(1) * k.dim(1);
      p.bias = static_cast<const T*>(bias.raw());
      p.bias_head_step = bias.dim(1) > 1 ? matrix : 0;
      p.bias_batch_step = bias.dim(0) > 1 ? bias.dim(1) * matrix : 0;
    }
    cuda::attention(p);
  });
}

}  // namespace sinopia
