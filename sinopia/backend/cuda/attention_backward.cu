#include <algorithm>
#include <cmath>
#include <cstdint>

#include "sinopia/backend/cuda/attention_backward.h"
#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/backend/cuda/runtime.h"

namespace sinopia {

void CudaKernels::attention_backward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& bias,
                                     const AttentionOptions& options, const Tensor& y, const Tensor& dy,
                                     Tensor& dq, Tensor& dk, Tensor& dv) {
  if (k.numel() == 0) {
    if (dq.numel() > 0)
      cuda::check(cudaMemsetAsync(dq.raw(), 0, dq.bytes(), cuda::stream()), "clear a gradient");
    return;
  }
  cuda::AttentionGradient p{};
  p.batch = q.dim(0);
  p.heads = options.heads;
  p.T = static_cast<int>(q.dim(1));
  p.S = static_cast<int>(k.dim(1));
  p.D = static_cast<int>(q.dim(2) / options.heads);
  p.scale = options.scale != 0 ? options.scale : 1 / std::sqrt(static_cast<float>(p.D));
  p.causal = options.causal;
  p.q = q.raw();
  p.k = k.raw();
  p.v = v.raw();
  p.y = y.raw();
  p.dy = dy.raw();
  p.dq = dq.raw();
  p.dk = dk.raw();
  p.dv = dv.raw();
  if (bias) {
    p.bias = bias.raw();
    p.bias_head_step = bias.dim(1) > 1 ? q.dim(1) * k.dim(1) : 0;
    p.bias_batch_step = bias.dim(0) > 1 ? bias.dim(1) * q.dim(1) * k.dim(1) : 0;
  }
  const size_t element = q.bytes() / static_cast<size_t>(std::max<int64_t>(q.numel(), 1));
  p.vectors = static_cast<size_t>(p.D) * element % 16 == 0;
  for (const Tensor* x : {&q, &k, &v, &y, &dy, static_cast<const Tensor*>(&dq),
                          static_cast<const Tensor*>(&dk), static_cast<const Tensor*>(&dv)})
    p.vectors = p.vectors && reinterpret_cast<uintptr_t>(x->raw()) % 16 == 0;

  const int64_t tiles = cuda::ceil_div(p.T, cuda::kStatisticsTile), heads = p.batch * p.heads;
  p.statistics_stride = tiles * cuda::kStatisticsTile;
  const int64_t rows = heads * p.statistics_stride;
  Tensor statistics = cuda::scratch(static_cast<size_t>(3 * rows + heads * 2 * tiles) * sizeof(float));
  p.highest = static_cast<float*>(statistics.raw());
  p.factor = p.highest + rows;
  p.delta = p.factor + rows;
  p.largest = p.delta + rows;
  const bool tensor_cores = q.dtype() != DType::F32 && p.scale > 0 && cuda::limits().major >= 8;
  if (tensor_cores && cuda::attention_backward_mma(q.dtype(), p)) return;
  cuda::attention_backward_simt(q.dtype(), p);
}

}  // namespace sinopia
