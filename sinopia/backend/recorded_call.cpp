#include "sinopia/backend/recorded_call.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>
#include <utility>

#include "sinopia/backend/graph_recording.h"
#include "sinopia/tensor/allocator.h"

namespace sinopia {
namespace {

struct InputKind {
  bool defined = false;
  Shape shape;
  DType dtype = DType::F32;
  Device device;

  explicit InputKind(const Tensor& x)
      : defined(x.defined()), shape(x.shape()), dtype(x.dtype()), device(x.device()) {}
  friend bool operator==(const InputKind&, const InputKind&) = default;
};

// The one device that all inputs lie on; the CPU if there is none such.
Device device_of(std::span<const Tensor> inputs) {
  Device device;
  for (const Tensor& x : inputs) {
    if (!x) continue;
    if (x.device().is_cpu() || (!device.is_cpu() && x.device() != device)) return {};
    device = x.device();
  }
  return device;
}

Tensor copy_of(const Tensor& x) {
  if (!x) return {};
  Tensor y = empty_like(x);
  allocator(x.device()).copy(y.raw(), x.raw(), x.bytes());
  return y;
}

std::vector<Tensor> copies_of(std::span<const Tensor> tensors) {
  std::vector<Tensor> copies;
  for (const Tensor& x : tensors) copies.push_back(copy_of(x));
  return copies;
}

bool has_gradient(std::span<const Tensor> tensors) {
  return std::any_of(tensors.begin(), tensors.end(),
                     [](const Tensor& x) { return x.gradient_node() != nullptr; });
}

constexpr int kMostLosses = 2;

}  // namespace

struct RecordedCall::State {
  enum class Stage { New, Called, Recorded, Plain };

  Stage stage = Stage::New;
  std::vector<InputKind> kinds;
  Device device;
  std::unique_ptr<GraphRecording> recording;
  std::vector<Tensor> inputs, outputs;  // those that the recording reads and writes
  bool replayed = false;
  int losses = 0;                 // recordings of this kind that went because memory was short
  std::atomic<bool> busy{false};  // a call uses the recording or another one takes it away, never both

  State();
  ~State();

  void forget() {
    outputs.clear();
    recording.reset();
    inputs.clear();
    stage = Stage::New;
  }

  std::vector<Tensor> call(std::span<const Tensor> given, const Work& work);
  bool record(std::span<const Tensor> given, const Work& work);
  std::vector<Tensor> replay(std::span<const Tensor> given);
  size_t give_up();

  struct All {
    std::mutex mutex;
    std::vector<State*> states;
  };
  static All& all() {
    static All* const instance = [] {
      auto* const made = new All;  // outlives static calls
      on_memory_shortage([made](Device device, size_t wanted) {
        const std::unique_lock lock(made->mutex, std::try_to_lock);
        size_t given = 0;
        for (size_t i = 0; lock && i < made->states.size() && given < wanted; ++i)
          if (made->states[i]->device == device) given += made->states[i]->give_up();
        return given;
      });
      return made;
    }();
    return *instance;
  }
};

RecordedCall::State::State() {
  const std::lock_guard lock(all().mutex);
  all().states.push_back(this);
}

RecordedCall::State::~State() {
  const std::lock_guard lock(all().mutex);
  std::erase(all().states, this);
}

size_t RecordedCall::State::give_up() {
  if (busy.exchange(true)) return 0;
  size_t given = 0;
  if (recording) {
    given = recording->bytes();
    forget();
    if (++losses == kMostLosses) stage = Stage::Plain;
  }
  busy = false;
  return given;
}

std::vector<Tensor> RecordedCall::State::call(std::span<const Tensor> given, const Work& work) {
  const std::vector<InputKind> now(given.begin(), given.end());
  if (now != kinds) {
    forget();
    kinds = now;
    losses = 0;
  }
  if (stage == Stage::Recorded) {
    std::vector<Tensor> results = replay(given);
    replayed = true;
    return results;
  }
  if (stage == Stage::Called) {
    if (record(given, work)) return replay(given);
    forget();
    stage = Stage::Plain;
  }
  std::vector<Tensor> results = work(given);
  if (stage == Stage::New) {
    const bool there = std::all_of(results.begin(), results.end(),
                                   [&](const Tensor& y) { return !y || y.device() == device; });
    stage = there && !has_gradient(results) ? Stage::Called : Stage::Plain;
  }
  return results;
}

bool RecordedCall::State::record(std::span<const Tensor> given, const Work& work) {
  try {
    inputs = copies_of(given);
  } catch (const Error& e) {
    if (e.kind() == ErrorKind::OutOfMemory) return false;
    throw;
  }
  recording = record_graph(device, [&] { outputs = work(inputs); });
  if (recording) stage = Stage::Recorded;
  return recording != nullptr;
}

std::vector<Tensor> RecordedCall::State::replay(std::span<const Tensor> given) {
  for (size_t i = 0; i < given.size(); ++i)
    if (given[i]) allocator(device).copy(inputs[i].raw(), given[i].raw(), given[i].bytes());
  recording->replay();
  return copies_of(outputs);
}

RecordedCall::RecordedCall() = default;
RecordedCall::~RecordedCall() = default;
RecordedCall::RecordedCall(RecordedCall&&) noexcept = default;
RecordedCall& RecordedCall::operator=(RecordedCall&&) noexcept = default;

std::vector<Tensor> RecordedCall::operator()(std::span<const Tensor> inputs, const Work& work) {
  if (state_) state_->replayed = false;
  const Device device = device_of(inputs);
  // Within another recording, the work becomes a part of that.
  if (device.is_cpu() || is_recording_graph() || has_gradient(inputs)) return work(inputs);
  if (!state_) state_ = std::make_unique<State>();
  while (state_->busy.exchange(true)) std::this_thread::yield();
  struct Done {
    State& state;
    ~Done() { state.busy = false; }
  } const done{*state_};
  state_->device = device;
  return state_->call(inputs, work);
}

bool RecordedCall::replayed() const { return state_ && state_->replayed; }

void RecordedCall::reset() { state_.reset(); }

}  // namespace sinopia
