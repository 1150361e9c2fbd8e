#include "sinopia/tensor/allocator.h"

#include <array>
#include <atomic>

#include "sinopia/base/error.h"
#include "sinopia/tensor/cpu_allocator.h"
#include "sinopia/tensor/storage.h"

namespace sinopia {
namespace {

std::array<std::atomic<Allocator*>, 2> registered{};

thread_local Allocator* cpu_override = nullptr;

}  // namespace

CpuAllocatorScope::CpuAllocatorScope(Allocator& allocator) : before_(cpu_override) {
  cpu_override = &allocator;
}

CpuAllocatorScope::~CpuAllocatorScope() { cpu_override = before_; }

Allocator& allocator(Device device) {
  if (device.is_cpu()) return cpu_override ? *cpu_override : cpu_allocator();
  Allocator* found = registered[static_cast<size_t>(device.type)].load();
  SINOPIA_CHECK(found, Unsupported, "[tensor] this build has no device {}", to_string(device));
  return *found;
}

void register_allocator(DeviceType type, Allocator& allocator) {
  registered[static_cast<size_t>(type)] = &allocator;
}

std::shared_ptr<Storage> Storage::allocate(size_t bytes, Device device) {
  Allocator& source = allocator(device);
  return std::make_shared<Storage>(source.allocate(bytes), bytes, device,
                                   [&source](void* data, size_t size) { source.release(data, size); });
}

}  // namespace sinopia
