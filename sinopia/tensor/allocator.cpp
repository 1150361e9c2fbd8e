#include "sinopia/tensor/allocator.h"

#include <array>
#include <atomic>
#include <cstring>

#include "sinopia/base/error.h"
#include "sinopia/tensor/cpu_allocator.h"
#include "sinopia/tensor/storage.h"

namespace sinopia {
namespace {

std::array<std::atomic<Allocator*>, kMaxGpus> registered{};  // of GPUs, by their numbers

thread_local Allocator* cpu_override = nullptr;

}  // namespace

CpuAllocatorScope::CpuAllocatorScope(Allocator& allocator) : before_(cpu_override) {
  cpu_override = &allocator;
}

CpuAllocatorScope::~CpuAllocatorScope() { cpu_override = before_; }

Allocator& allocator(Device device) {
  if (device.is_cpu()) return cpu_override ? *cpu_override : cpu_allocator();
  Allocator* const found = device.index >= 0 && device.index < kMaxGpus
                               ? registered[static_cast<size_t>(device.index)].load()
                               : nullptr;
  SINOPIA_CHECK(found, Unsupported, "[tensor] the device {} was not opened", to_string(device));
  return *found;
}

void Allocator::copy(void* to, const void* from, size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

void register_allocator(Device device, Allocator& allocator) {
  SINOPIA_CHECK(!device.is_cpu() && device.index >= 0 && device.index < kMaxGpus, InvalidArgument,
                "[tensor] expected cuda:0 to cuda:{}, got {}", kMaxGpus - 1, to_string(device));
  registered[static_cast<size_t>(device.index)] = &allocator;
}

std::shared_ptr<Storage> Storage::allocate(size_t bytes, Device device) {
  Allocator& source = allocator(device);
  return std::make_shared<Storage>(source.allocate(bytes), bytes, device,
                                   [&source](void* data, size_t size) { source.release(data, size); });
}

}  // namespace sinopia
