#include "sinopia/backend/cuda/staging.h"

#include <algorithm>
#include <cstring>

#include "sinopia/backend/cuda/runtime.h"
#include "sinopia/base/threads.h"

namespace sinopia::cuda {
namespace {

// One core copies some 10 GB/s, which is less than the bus does.
void copy_on_host(void* to, const void* from, size_t bytes) {
  constexpr int64_t kGrain = int64_t{512} << 10;
  parallel_for(static_cast<int64_t>(bytes), kGrain, [&](int64_t begin, int64_t end) {
    std::memcpy(static_cast<char*>(to) + begin, static_cast<const char*>(from) + begin,
                static_cast<size_t>(end - begin));
  });
}

}  // namespace

Staging::~Staging() {
  for (Slot& slot : slots_) {
    if (!slot.data) continue;
    cudaEventSynchronize(slot.copied);
    cudaEventDestroy(slot.copied);
    cudaFreeHost(slot.data);
  }
}

Staging::Slot& Staging::next_slot() {
  Slot& slot = slots_[next_];
  next_ = (next_ + 1) % slots_.size();
  if (!slot.copied) check(cudaEventCreateWithFlags(&slot.copied, cudaEventDisableTiming), "make an event");
  if (!slot.data) {
    void* data = nullptr;
    check(cudaHostAlloc(&data, slot_bytes_, cudaHostAllocDefault), "get pinned memory");
    slot.data = static_cast<char*>(data);
  }
  wait(slot);
  return slot;
}

void Staging::wait(Slot& slot) {
  if (slot.used) check(cudaEventSynchronize(slot.copied), "finish a copy");
  slot.used = false;
}

bool Staging::busy() {
  const std::lock_guard lock(mutex_);
  const Slot& slot = slots_[next_];
  if (!slot.used) return false;
  const cudaError_t status = cudaEventQuery(slot.copied);
  if (status != cudaErrorNotReady) {
    check(status, "ask for a copy");
    return false;
  }
  cudaGetLastError();
  return true;
}

void Staging::upload(void* to, const void* from, size_t bytes, cudaStream_t stream) {
  const std::lock_guard lock(mutex_);
  for (size_t done = 0; done < bytes;) {
    Slot& slot = next_slot();
    const size_t part = std::min(bytes - done, slot_bytes_);
    copy_on_host(slot.data, static_cast<const char*>(from) + done, part);
    check(cudaMemcpyAsync(static_cast<char*>(to) + done, slot.data, part, cudaMemcpyHostToDevice, stream),
          "copy to the device");
    check(cudaEventRecord(slot.copied, stream), "mark a copy");
    slot.used = true;
    done += part;
  }
}

void Staging::download(void* to, const void* from, size_t bytes, cudaStream_t stream) {
  const std::lock_guard lock(mutex_);
  struct Part {
    Slot* slot;
    size_t begin, bytes;
  };
  std::vector<Part> flying;  // oldest first
  size_t queued = 0, done = 0;
  while (done < bytes) {
    while (queued < bytes && flying.size() < slots_.size()) {
      Slot& slot = next_slot();
      const size_t part = std::min(bytes - queued, slot_bytes_);
      check(cudaMemcpyAsync(slot.data, static_cast<const char*>(from) + queued, part, cudaMemcpyDeviceToHost,
                            stream),
            "copy from the device");
      check(cudaEventRecord(slot.copied, stream), "mark a copy");
      slot.used = true;
      flying.push_back({&slot, queued, part});
      queued += part;
    }
    const Part oldest = flying.front();
    flying.erase(flying.begin());
    wait(*oldest.slot);
    copy_on_host(static_cast<char*>(to) + oldest.begin, oldest.slot->data, oldest.bytes);
    done += oldest.bytes;
  }
}

}  // namespace sinopia::cuda
