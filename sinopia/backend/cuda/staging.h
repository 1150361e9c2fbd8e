#pragma once

#include <cstddef>
#include <mutex>
#include <vector>

#include <cuda_runtime.h>

namespace sinopia::cuda {

/// Pinned memory of the host, in slots that take turns, through which bytes go to and from a device at the
/// full speed of the bus: while one is on its way, the host fills or empties the next. Copies from ordinary
/// memory are left to the host's threads. Thread safe.
class Staging {
 public:
  /// For the current device; the memory is taken on first use.
  Staging(size_t slot_bytes, size_t slots) : slot_bytes_(slot_bytes), slots_(slots) {}
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  /// On return `from` may be written to; `to` is complete when the stream gets there.
  void upload(void* to, const void* from, size_t bytes, cudaStream_t stream);
  /// Waits for the stream; on return `to` is complete.
  void download(void* to, const void* from, size_t bytes, cudaStream_t stream);
  /// Whether the next slot is still on its way, so that upload() would wait.
  bool busy();
  size_t slot_bytes() const { return slot_bytes_; }

 private:
  struct Slot {
    char* data = nullptr;
    cudaEvent_t copied = nullptr;
    bool used = false;
  };
  Slot& next_slot();
  static void wait(Slot& slot);

  const size_t slot_bytes_;
  std::mutex mutex_;
  std::vector<Slot> slots_;
  size_t next_ = 0;
};

}  // namespace sinopia::cuda
