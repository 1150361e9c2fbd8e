#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include <cuda_runtime.h>

#include "sinopia/base/error.h"

namespace sinopia::cuda {

// What code that runs inside record_graph() may need to know. A recording is made on a stream of its own,
// which stream() gives to the recording thread; other threads go on with the device's.

/// Whether what this thread asks of the device is being recorded rather than done.
bool is_recording();

/// Keeps something for as long as the recording that is being made may be replayed: memory that recorded
/// kernels read and that does not live as long as the model, as entries of a cache. Does nothing outside.
void keep_while_recorded(std::shared_ptr<const void> what);

/// Work that no recording can hold: it ends the recording, and the work is called from then on.
class NotRecordable final : public Error {
 public:
  using Error::Error;
};
/// Throws NotRecordable if this thread records. For what reads results on the host.
void refuse_recording(std::string_view what);

/// If this thread records: has a copy of `from` as it is now, on the host, copied to the device at each
/// replay.
bool record_upload(void* to, const void* from, size_t bytes);

/// While it lives, this thread's work is done at once, on the device's stream, although it records; what it
/// allocates is ordinary memory. For what a recording needs but does not hold: uploads of weights.
class RecordingPause {
 public:
  RecordingPause();
  ~RecordingPause();
  RecordingPause(const RecordingPause&) = delete;
  RecordingPause& operator=(const RecordingPause&) = delete;

 private:
  struct Paused;
  std::unique_ptr<Paused> paused_;
};

/// While it lives, this thread's stream() on the current device is another one; null is the device's own.
class StreamScope {
 public:
  explicit StreamScope(cudaStream_t stream);
  ~StreamScope();
  StreamScope(const StreamScope&) = delete;
  StreamScope& operator=(const StreamScope&) = delete;

 private:
  cudaStream_t before_;
  int device_before_;
};

/// While it lives, the current device is another one.
class DeviceScope {
 public:
  explicit DeviceScope(int device);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  int before_;
};

/// While it lives, a thread that records may make calls that are not part of what is recorded, such as
/// cudaMalloc or waiting for another stream; the runtime refuses them otherwise, in case they are a mistake.
class RelaxedCapture {
 public:
  RelaxedCapture();
  ~RelaxedCapture();
  RelaxedCapture(const RelaxedCapture&) = delete;
  RelaxedCapture& operator=(const RelaxedCapture&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

}  // namespace sinopia::cuda
