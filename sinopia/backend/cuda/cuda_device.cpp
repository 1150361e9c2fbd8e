#include "sinopia/backend/cuda_device.h"

#include <array>
#include <mutex>

#include <fmt/core.h>

#include "sinopia/backend/cuda/cublaslt.h"
#include "sinopia/backend/cuda/cuda_allocator.h"
#include "sinopia/backend/cuda/probe.h"
#include "sinopia/backend/cuda/runtime.h"
#include "sinopia/base/error.h"

namespace sinopia {

bool built_with_cuda() { return true; }

std::string cuda_obstacle() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  cudaGetLastError();
  if (status == cudaErrorInsufficientDriver)
    return "there is no NVIDIA driver, or it is older than this build's CUDA";
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0)) return "there is no NVIDIA GPU";
  return status == cudaSuccess ? "" : fmt::format("the driver reports: {}", cudaGetErrorString(status));
}

int cuda_device_count() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? std::min(count, kMaxGpus) : 0;
}

void open_cuda_device(int index) {
  static std::array<std::once_flag, kMaxGpus> opened;
  std::call_once(opened.at(static_cast<size_t>(index)), [&] {
    cuda::use_device(index);
    const std::string obstacle = cuda::kernel_obstacle();
    SINOPIA_CHECK(obstacle.empty(), Unsupported, "[device] cuda:{} cannot be used: {}", index, obstacle);
    auto* const memory = new cuda::CudaAllocator(index);  // outlives the last tensor
    register_allocator({DeviceType::Cuda, index}, *memory);
    cuda::prepare_products();
  });
}

std::string cuda_device_name(int index) {
  cudaDeviceProp properties{};
  cuda::check(cudaGetDeviceProperties(&properties, index), "ask for a device's name");
  return properties.name;
}

size_t free_cuda_memory(int index) {
  cuda::use_device(index);
  size_t free = 0, total = 0;
  cuda::check(cudaMemGetInfo(&free, &total), "ask for free memory");
  return free;
}

void set_cuda_tf32(bool on) { cuda::set_tf32(on); }

void synchronise_cuda(int index) {
  cuda::use_device(index);
  cuda::check(cudaStreamSynchronize(cuda::stream()), "finish");
}

}  // namespace sinopia
