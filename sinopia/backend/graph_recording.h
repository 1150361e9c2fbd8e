#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#include "sinopia/tensor/device.h"

namespace sinopia {

/// A device's recording of work, to be replayed; what recorded_call.h is made from. One definition in cuda/,
/// one in stub/. While it lives, it keeps the memory that the work used.
class GraphRecording {
 public:
  virtual ~GraphRecording() = default;
  virtual void replay() = 0;
  /// Of the device, that it keeps.
  virtual size_t bytes() const = 0;
};

/// Calls `work` so that the device notes what it is asked to do instead of doing it. Null, with the device as
/// it was, if the work cannot be recorded: it reads results on the host, memory is short, this thread is
/// recording already. Throws what `work` throws for other reasons. Other threads may use the device
/// meanwhile.
std::unique_ptr<GraphRecording> record_graph(Device device, const std::function<void()>& work);

/// Whether this thread is within record_graph().
bool is_recording_graph();

/// Has `give_up` called, from now on, when a device's memory is short, within any thread's request for
/// memory: it gives up `wanted` bytes of the device if it can and returns how many it gave up.
void on_memory_shortage(std::function<size_t(Device device, size_t wanted)> give_up);

}  // namespace sinopia
