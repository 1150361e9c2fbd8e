#include "sinopia/backend/cuda/runtime.h"

#include <array>
#include <mutex>

#include "sinopia/base/error.h"
#include "sinopia/tensor/allocator.h"

namespace sinopia::cuda {
namespace {

thread_local int device_of_thread = 0;

struct DeviceState {
  std::once_flag once;
  cudaStream_t stream = nullptr;
  DeviceLimits limits;
};

DeviceState& state(int device) {
  static auto* const all = new std::array<DeviceState, kMaxGpus>;  // never freed: tensors may outlive statics
  DeviceState& s = all->at(static_cast<size_t>(device));
  std::call_once(s.once, [&] {
    use_device(device);
    check(cudaStreamCreateWithFlags(&s.stream, cudaStreamNonBlocking), "make a stream");
    const auto attribute = [&](cudaDeviceAttr which) {
      int value = 0;
      check(cudaDeviceGetAttribute(&value, which, device), "ask for the device's limits");
      return value;
    };
    s.limits = {attribute(cudaDevAttrComputeCapabilityMajor), attribute(cudaDevAttrComputeCapabilityMinor),
                attribute(cudaDevAttrMultiProcessorCount),
                static_cast<size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin))};
  });
  return s;
}

}  // namespace

void check(cudaError_t status, std::string_view what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // so that the next call does not report it again
  fail(status == cudaErrorMemoryAllocation ? ErrorKind::OutOfMemory : ErrorKind::Backend,
       "[cuda] could not {}: {}", what, cudaGetErrorString(status));
}

int current_device() { return device_of_thread; }

void use_device(int index) {
  if (device_of_thread == index) return;
  check(cudaSetDevice(index), "choose a device");
  device_of_thread = index;
}

cudaStream_t stream() { return stream(current_device()); }
cudaStream_t stream(int device) { return state(device).stream; }
const DeviceLimits& limits() { return state(current_device()).limits; }

Tensor scratch(size_t bytes) {
  return Tensor::empty({static_cast<int64_t>(bytes)}, DType::U8, {DeviceType::Cuda, current_device()});
}

void to_host(void* to, const void* from, size_t bytes) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream()), "copy from the device");
  check(cudaStreamSynchronize(stream()), "copy from the device");
}

void to_device(void* to, const void* from, size_t bytes) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream()), "copy to the device");
  check(cudaStreamSynchronize(stream()), "copy to the device");
}

}  // namespace sinopia::cuda
