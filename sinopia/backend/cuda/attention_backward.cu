#include <algorithm>
#include <cmath>
#include <cstdint>

#include "sinopia/backend/cuda/attention_backward.h"
#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/backend/cuda/elements.h"
#include "sinopia/backend/cuda/runtime.h"

namespace sinopia {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kLeastQueries = 256;  // of a split

/// dk and dv, each of `count` elements, as the sums of their parts in the order of the splits.
template <class T>
__global__ void sum_parts(const float* parts, int splits, int64_t count, T* dk, T* dv) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= 2 * count) return;
  float sum = parts[i];
  for (int split = 1; split < splits; ++split) sum += parts[2 * count * split + i];
  (i < count ? dk[i] : dv[i - count]) = narrow_to<T>(sum);
}

}  // namespace

Tensor split_queries(AttentionGradient& p, int64_t blocks, int64_t room) {
  const int64_t wanted = std::min(room / std::max<int64_t>(blocks, 1), p.T / kLeastQueries);
  p.splits = static_cast<int>(std::clamp<int64_t>(wanted, 1, 64));
  p.split_queries = static_cast<int>(ceil_div(ceil_div(p.T, p.splits), kStatisticsTile) * kStatisticsTile);
  p.splits = static_cast<int>(std::max<int64_t>(ceil_div(p.T, std::max(p.split_queries, 1)), 1));
  if (p.splits == 1) return {};
  const int64_t count = p.batch * p.S * p.heads * p.D;
  Tensor parts = scratch(static_cast<size_t>(p.splits * 2 * count) * sizeof(float));
  p.parts = static_cast<float*>(parts.raw());
  return parts;
}

void add_parts(const AttentionGradient& p) {
  if (p.splits == 1) return;
  for_float(p.dtype, [&](auto element) {
    using T = decltype(element);
    const int64_t count = p.batch * p.S * p.heads * p.D;
    launch(sum_parts<T>, static_cast<unsigned>(ceil_div(2 * count, kThreads)), kThreads, 0, p.parts, p.splits,
           count, static_cast<T*>(p.dk), static_cast<T*>(p.dv));
  });
}

}  // namespace cuda

void CudaKernels::attention_backward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& bias,
                                     const AttentionOptions& options, const Tensor& y, const Tensor& dy,
                                     Tensor& dq, Tensor& dk, Tensor& dv) {
  if (k.numel() == 0) {
    if (dq.numel() > 0)
      cuda::check(cudaMemsetAsync(dq.raw(), 0, dq.bytes(), cuda::stream()), "clear a gradient");
    return;
  }
  cuda::AttentionGradient p{};
  p.dtype = q.dtype();
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
  if (tensor_cores && cuda::attention_backward_mma(p)) return;
  cuda::attention_backward_simt(p);
}

}  // namespace sinopia
