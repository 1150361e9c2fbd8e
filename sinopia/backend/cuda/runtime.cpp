#include "sinopia/backend/cuda/runtime.h"

#include <array>
#include <mutex>
#include <utility>

#include "sinopia/backend/cuda/cuda_allocator.h"
#include "sinopia/backend/cuda/recording.h"
#include "sinopia/base/error.h"
#include "sinopia/tensor/allocator.h"

namespace sinopia::cuda {
namespace {

thread_local int device_of_thread = 0;
thread_local cudaStream_t stream_of_thread = nullptr;  // instead of its device's own
thread_local int device_of_stream = 0;

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

StreamScope::StreamScope(cudaStream_t stream)
    : before_(std::exchange(stream_of_thread, stream)),
      device_before_(std::exchange(device_of_stream, current_device())) {}
StreamScope::~StreamScope() {
  stream_of_thread = before_;
  device_of_stream = device_before_;
}

DeviceScope::DeviceScope(int device) : before_(current_device()) { use_device(device); }
DeviceScope::~DeviceScope() {
  if (device_of_thread == before_) return;
  cudaSetDevice(before_);  // which worked before
  device_of_thread = before_;
}

cudaStream_t stream() {
  const bool own = stream_of_thread && device_of_stream == current_device();
  return own ? stream_of_thread : stream(current_device());
}
cudaStream_t stream(int device) { return state(device).stream; }
const DeviceLimits& limits() { return state(current_device()).limits; }

Tensor scratch(size_t bytes) {
  return Tensor::empty({static_cast<int64_t>(bytes)}, DType::U8, {DeviceType::Cuda, current_device()});
}

void to_host(void* to, const void* from, size_t bytes) {
  cuda_allocator(current_device()).download(to, from, bytes);
}

void to_device(void* to, const void* from, size_t bytes) {
  cuda_allocator(current_device()).upload(to, from, bytes);
}

}  // namespace sinopia::cuda
