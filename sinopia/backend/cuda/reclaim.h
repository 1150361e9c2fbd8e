#pragma once

#include <cstddef>
#include <functional>

namespace sinopia::cuda {

/// Adds something to ask when the current device is short of memory, after all that were added before: it
/// gives up what can be made again, `wanted` bytes of it if it has so much, and returns how many bytes it
/// gave up. It is called within an allocate(), which may be that of any code of any thread: a lock that is
/// held while memory is asked for may only be tried, and 0 returned if it is taken. What it gives up is
/// released on the host; kernels that were queued before may still use it.
void register_reclaimer(std::function<size_t(size_t wanted)> reclaimer);

/// Asks one after the other until `wanted` bytes were given up, and returns how many were; 0 within a
/// reclaimer.
size_t reclaim(size_t wanted);

/// While it lives, reclaim() does nothing on this thread.
class NoReclaiming {
 public:
  NoReclaiming();
  ~NoReclaiming();
  NoReclaiming(const NoReclaiming&) = delete;
  NoReclaiming& operator=(const NoReclaiming&) = delete;

 private:
  bool before_;
};

}  // namespace sinopia::cuda
