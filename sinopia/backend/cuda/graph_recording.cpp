#include "sinopia/backend/graph_recording.h"

#include <cstring>
#include <exception>
#include <utility>
#include <vector>

#include "sinopia/backend/cuda/cuda_allocator.h"
#include "sinopia/backend/cuda/reclaim.h"
#include "sinopia/backend/cuda/recording.h"
#include "sinopia/backend/cuda/runtime.h"

namespace sinopia {
namespace cuda {
namespace {

class CudaGraphRecording final : public GraphRecording {
 public:
  explicit CudaGraphRecording(int device) : device_(device), pool(cuda_allocator(device)) {}
  ~CudaGraphRecording() override {
    const DeviceScope scope(device_);
    if (executable) cudaGraphExecDestroy(executable);  // what runs of it still ends
  }
  void replay() override {
    refuse_recording("replay a recording");
    const DeviceScope scope(device_);
    check(cudaGraphLaunch(executable, stream(device_)), "replay a recording");
  }
  size_t bytes() const override { return pool.bytes(); }

 private:
  int device_;

 public:
  CudaAllocator::PrivatePool pool;
  std::vector<std::shared_ptr<const void>> kept;
  cudaGraphExec_t executable = nullptr;
};

thread_local CudaGraphRecording* recording_of_thread = nullptr;

// While it lives, this thread records.
class Capture {
 public:
  explicit Capture(CudaGraphRecording& recording) {
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "make a stream");
    const cudaError_t status = cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal);
    if (status != cudaSuccess) cudaStreamDestroy(stream_);
    check(status, "begin a recording");
    recording_of_thread = &recording;
  }
  ~Capture() {
    end();
    if (graph_) cudaGraphDestroy(graph_);
    cudaStreamDestroy(stream_);
  }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  cudaStream_t stream() const { return stream_; }
  /// The graph; null if something that was asked for cannot be recorded.
  cudaGraph_t end() {
    if (std::exchange(recording_of_thread, nullptr) &&
        cudaStreamEndCapture(stream_, &graph_) != cudaSuccess) {
      cudaGetLastError();
      graph_ = nullptr;
    }
    return graph_;
  }

 private:
  cudaStream_t stream_ = nullptr;
  cudaGraph_t graph_ = nullptr;
};

}  // namespace

bool is_recording() { return recording_of_thread != nullptr; }

void keep_while_recorded(std::shared_ptr<const void> what) {
  if (recording_of_thread) recording_of_thread->kept.push_back(std::move(what));
}

void refuse_recording(std::string_view what) {
  if (is_recording())
    throw NotRecordable(ErrorKind::Unsupported, fmt::format("[cuda] a recording cannot {}", what));
}

bool record_upload(void* to, const void* from, size_t bytes) {
  if (!is_recording()) return false;
  void* pinned = nullptr;
  {
    const RelaxedCapture relaxed;
    check(cudaHostAlloc(&pinned, bytes, cudaHostAllocDefault), "get pinned memory");
  }
  keep_while_recorded(std::shared_ptr<const void>(pinned, [](void* data) { cudaFreeHost(data); }));
  std::memcpy(pinned, from, bytes);
  check(cudaMemcpyAsync(to, pinned, bytes, cudaMemcpyHostToDevice, stream()), "copy to the device");
  return true;
}

RelaxedCapture::RelaxedCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
RelaxedCapture::~RelaxedCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }

struct RecordingPause::Paused {
  ~Paused() { recording_of_thread = recording; }
  CudaGraphRecording* recording = std::exchange(recording_of_thread, nullptr);
  StreamScope stream{nullptr};
  CudaAllocator::PoolScope pool{nullptr};
  RelaxedCapture relaxed;
};

RecordingPause::RecordingPause() : paused_(is_recording() ? std::make_unique<Paused>() : nullptr) {}
RecordingPause::~RecordingPause() = default;

}  // namespace cuda

bool is_recording_graph() { return cuda::is_recording(); }

void on_memory_shortage(std::function<size_t(Device, size_t)> give_up) {
  cuda::register_reclaimer([give_up = std::move(give_up)](size_t wanted) {
    return give_up({DeviceType::Cuda, cuda::current_device()}, wanted);
  });
}

std::unique_ptr<GraphRecording> record_graph(Device device, const std::function<void()>& work) {
  using namespace cuda;
  if (device.is_cpu() || is_recording()) return nullptr;
  const DeviceScope scope(device.index);
  auto recording = std::make_unique<CudaGraphRecording>(device.index);
  Capture capture(*recording);
  std::exception_ptr error;
  {
    const StreamScope stream(capture.stream());
    const CudaAllocator::PoolScope pool(&recording->pool);
    try {
      work();
    } catch (const NotRecordable&) {
      return nullptr;
    } catch (const Error& e) {
      if (e.kind() == ErrorKind::OutOfMemory) return nullptr;
      error = std::current_exception();
    } catch (...) {
      error = std::current_exception();
    }
  }
  // An error may be no more than that of a call that ended the recording; called plainly, the work tells.
  cudaGraph_t const graph = capture.end();
  if (!graph) return nullptr;
  if (error) std::rethrow_exception(error);
  const cudaError_t status = cudaGraphInstantiate(&recording->executable, graph, 0);
  if (status != cudaSuccess) {
    cudaGetLastError();
    recording->executable = nullptr;
    return nullptr;
  }
  return recording;
}

}  // namespace sinopia
