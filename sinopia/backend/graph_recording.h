#pragma once

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
};

/// Calls `work` so that the device notes what it is asked to do instead of doing it. Null, with the device as
/// it was, if the work cannot be recorded. Throws what `work` throws for other reasons.
std::unique_ptr<GraphRecording> record_graph(Device device, const std::function<void()>& work);

}  // namespace sinopia
