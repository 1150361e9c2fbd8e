#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/backend/cuda/runtime.h"

namespace sinopia {
namespace cuda {
namespace {

constexpr int kRows = 32, kColumns = 128, kWarps = kColumns / 32;
constexpr int kLooks = 4;   ///< ids that a thread looks at in a round
constexpr int kAhead = 16;  ///< rows of dy that are read before the first of them is added
constexpr int kRound = kColumns * kLooks;

/// The rows of dy of a round that belong to a block's rows of the table, in their order.
struct Found {
  int row[kRound];        ///< counted from the round's first
  uint8_t place[kRound];  ///< in the table, counted from the block's first
};

/// Every thread looks at kLooks ids, and each finds its own place in the list. The number found.
__device__ int find(const int32_t* ids, int64_t count, int64_t first_row, Found& found) {
  __shared__ int counts[kLooks][kWarps];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  int64_t place[kLooks];
  bool any = false;
#pragma unroll
  for (int k = 0; k < kLooks; ++k) {
    const int64_t i = k * kColumns + threadIdx.x;
    place[k] = i < count ? ids[i] - first_row : -1;
    if (place[k] >= kRows) place[k] = -1;
    any = any || place[k] >= 0;
  }
  if (!__syncthreads_or(any)) return 0;
  unsigned votes[kLooks];
#pragma unroll
  for (int k = 0; k < kLooks; ++k) {
    votes[k] = __ballot_sync(0xffffffffu, place[k] >= 0);
    if (lane == 0) counts[k][warp] = __popc(votes[k]);
  }
  __syncthreads();
  int total = 0;
#pragma unroll
  for (int k = 0; k < kLooks; ++k) {
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      if (w == warp && place[k] >= 0) {
        const int at = total + __popc(votes[k] & ((1u << lane) - 1));
        found.row[at] = k * kColumns + static_cast<int>(threadIdx.x);
        found.place[at] = static_cast<uint8_t>(place[k]);
      }
      total += counts[k][w];
    }
  }
  __syncthreads();
  return total;
}

/// A block makes kRows rows and kColumns columns of the table's gradient, a thread one column: it goes
/// through all ids and adds what it finds in the order of dy's rows. Rows that no id names become zero on the
/// way.
__global__ void sum_rows_kernel(const float* dy, const int32_t* ids, int64_t n, int64_t V, int64_t D,
                                int64_t column_blocks, float* dtable) {
  __shared__ float sums[kRows][kColumns];
  __shared__ Found found;
  const int64_t first_row = blockIdx.x / column_blocks * kRows;
  const int64_t c = blockIdx.x % column_blocks * kColumns + threadIdx.x;
  const bool used = c < D;
#pragma unroll
  for (int r = 0; r < kRows; ++r) sums[r][threadIdx.x] = 0;
  for (int64_t i = 0; i < n; i += kRound) {
    const int count = find(ids + i, n - i, first_row, found);
    if (!used) continue;
    const float* from = dy + i * D + c;
    for (int k = 0; k < count; k += kAhead) {
      float values[kAhead];
#pragma unroll
      for (int a = 0; a < kAhead; ++a)
        if (k + a < count) values[a] = from[found.row[k + a] * D];
#pragma unroll
      for (int a = 0; a < kAhead; ++a)
        if (k + a < count) sums[found.place[k + a]][threadIdx.x] += values[a];
    }
  }
  if (!used) return;
  float* to = dtable + first_row * D + c;
#pragma unroll 8
  for (int r = 0; r < kRows; ++r)
    if (first_row + r < V) to[r * D] = sums[r][threadIdx.x];
}

}  // namespace
}  // namespace cuda

void CudaKernels::sum_rows(const Tensor& dy, const Tensor& ids, Tensor& dtable) {
  using namespace cuda;
  if (dtable.numel() == 0) return;
  const int64_t D = dtable.dim(-1), V = dtable.numel() / D, column_blocks = ceil_div(D, kColumns);
  launch(sum_rows_kernel, dim3(static_cast<unsigned>(ceil_div(V, kRows) * column_blocks)), dim3(kColumns), 0,
         dy.data<float>(), ids.data<int32_t>(), ids.numel(), V, D, column_blocks, dtable.data<float>());
}

}  // namespace sinopia
