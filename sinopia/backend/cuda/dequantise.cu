#include "sinopia/backend/cuda/dequantise.h"
#include "sinopia/backend/cuda/quantised_blocks.h"
#include "sinopia/backend/cuda/runtime.h"

namespace sinopia::cuda {
namespace {

constexpr int kThreads = 256;

template <class Block, class T>
__global__ void dequantise_kernel(const Block* blocks, T* y, int64_t runs) {
  const int64_t run = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (run >= runs) return;
  constexpr int kRuns = kBlockElements<Block> / kDecoded;
  float values[kDecoded];
  decode(blocks[run / kRuns], static_cast<int>(run % kRuns) * kDecoded, values);
  store_run(y + run * kDecoded, values);
}

}  // namespace

void dequantise(const Tensor& x, Tensor& y) {
  const int64_t runs = x.numel() / kDecoded;
  const auto grid = static_cast<unsigned>(ceil_div(runs, kThreads));
  for_blocks(x.dtype(), [&](auto block) {
    for_float(y.dtype(), [&](auto type) {
      launch(dequantise_kernel<decltype(block), decltype(type)>, grid, kThreads, 0, x.raw(), y.raw(), runs);
    });
  });
}

}  // namespace sinopia::cuda
