#pragma once

#include <cstddef>
#include <string_view>

#include <cuda_runtime.h>

#include "sinopia/tensor/tensor.h"

namespace sinopia::cuda {

/// Throws OutOfMemory where the device has none left, else Backend, with the runtime's words; `what` was
/// tried.
void check(cudaError_t status, std::string_view what);

/// The GPU that this thread's kernels run on: that of the last use_device(), 0 before.
int current_device();
void use_device(int index);

/// What kernels and libraries of the current device are queued on; one per device, so that they run in the
/// order in which they were asked for.
cudaStream_t stream();
cudaStream_t stream(int device);

struct DeviceLimits {
  int major = 0, minor = 0;  ///< compute capability
  int multiprocessors = 0;
  size_t shared_memory = 0;  ///< bytes that a block may ask for
};
/// Of the current device.
const DeviceLimits& limits();

/// `bytes` of the current device for as long as the tensor lives; what was queued before it goes is done
/// first.
Tensor scratch(size_t bytes);

/// Copies to the host, and waits for it.
void to_host(void* to, const void* from, size_t bytes);
/// The same to the device; `from` may be written to afterwards.
void to_device(void* to, const void* from, size_t bytes);

/// Starts a kernel on the current device's stream. Does nothing for an empty grid.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
            const Arguments&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream();
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), "start a kernel");
}

/// Lets a kernel have more shared memory than the 48 KiB that every one may have; once per kernel.
template <class Kernel>
void allow_shared_memory(Kernel* kernel, size_t bytes) {
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
        "give a kernel shared memory");
}

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace sinopia::cuda
