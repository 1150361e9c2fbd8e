#include "sinopia/backend/cuda/probe.h"
#include "sinopia/backend/cuda/runtime.h"

namespace sinopia::cuda {
namespace {

__global__ void nothing() {}

}  // namespace

std::string kernel_obstacle() {
  const std::string capability = std::to_string(limits().major) + "." + std::to_string(limits().minor);
  // Products in bf16 and copies past the registers came with it.
  if (limits().major < 8) return "its compute capability is " + capability + ", 8.0 is needed";
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(1);
  config.blockDim = dim3(1);
  config.stream = stream();
  const bool runs =
      cudaLaunchKernelEx(&config, nothing) == cudaSuccess && cudaStreamSynchronize(stream()) == cudaSuccess;
  cudaGetLastError();
  return runs ? "" : "this build has no code for its compute capability " + capability;
}

}  // namespace sinopia::cuda
