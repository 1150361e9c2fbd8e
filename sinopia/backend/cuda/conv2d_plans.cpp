#include "sinopia/backend/cuda/conv2d_plans.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>

#include "sinopia/backend/cuda/cublaslt.h"
#include "sinopia/backend/cuda/recording.h"
#include "sinopia/backend/cuda/runtime.h"
#include "sinopia/base/error.h"

namespace sinopia::cuda {
namespace {

constexpr size_t kWorkspaceBytes = size_t{512} << 20;  // more only if nothing else can
constexpr size_t kMeasured = 6;                        // plans timed for a problem
constexpr int kTimedRuns = 3;

struct Kept {
  std::shared_ptr<const ConvolutionPlan> plan;  // null: cuDNN has none
  bool measured = false;
};

struct State {
  std::mutex mutex;  // also while queuing: cuDNN's handle is for one thread at a time
  Conv2dPlanning planning;
  Conv2dPlanCounts counts;
  std::map<std::pair<int, Convolution>, Kept> kept;  // by device
};
State& state() {
  static auto* const all = new State;  // never freed: cuDNN may be gone before statics are
  return *all;
}

class Event {
 public:
  Event() { check(cudaEventCreate(&event_), "make an event"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record() { check(cudaEventRecord(event_, stream()), "record an event"); }
  /// Waits for this one.
  float milliseconds_since(const Event& start) const {
    check(cudaEventSynchronize(event_), "wait for an event");
    float result = 0;
    check(cudaEventElapsedTime(&result, start.event_, event_), "measure time");
    return result;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

void run(const ConvolutionPlan& plan, const ConvolutionBuffers& buffers) {
  Tensor workspace = plan.workspace_bytes() > 0 ? scratch(plan.workspace_bytes()) : Tensor();
  plan.run(buffers, workspace.raw());
}

/// Of the fastest of three runs, after one that loads the kernels.
float milliseconds(const ConvolutionPlan& plan, const ConvolutionBuffers& buffers) {
  Tensor workspace = plan.workspace_bytes() > 0 ? scratch(plan.workspace_bytes()) : Tensor();
  plan.run(buffers, workspace.raw());
  Event start, end;
  float best = INFINITY;
  for (int i = 0; i < kTimedRuns; ++i) {
    start.record();
    plan.run(buffers, workspace.raw());
    end.record();
    best = std::min(best, end.milliseconds_since(start));
  }
  return best;
}

Kept choose(const Convolution& problem, const ConvolutionBuffers& buffers, bool measure) {
  const RecordingPause pause;  // cuDNN may load what it needs
  auto plans = convolution_plans(problem, measure ? kMeasured : 1, kWorkspaceBytes);
  size_t best = 0;
  if (measure && plans.size() > 1) {
    float least = INFINITY;
    for (size_t i = 0; i < plans.size(); ++i) {
      const float time = milliseconds(*plans[i], buffers);
      if (time < least) least = time, best = i;
    }
    ++state().counts.measured;
  }
  state().counts.plans += static_cast<int64_t>(plans.size());
  return {plans.empty() ? nullptr : std::move(plans[best]), measure};
}

}  // namespace

void set_conv2d_planning(const Conv2dPlanning& planning) {
  const std::lock_guard lock(state().mutex);
  state().planning = planning;
}

Conv2dPlanning conv2d_planning() {
  const std::lock_guard lock(state().mutex);
  return state().planning;
}

Conv2dPlanCounts conv2d_plan_counts() {
  const std::lock_guard lock(state().mutex);
  return state().counts;
}

Convolution convolution_of(ConvolutionKind kind, const Shape& x, const Shape& w, const Shape& y,
                           const Conv2dOptions& options, DType dtype) {
  const Padding& pad = options.padding;
  return {.kind = kind,
          .dtype = dtype,
          .N = x.dim(0),
          .H = x.dim(1),
          .W = x.dim(2),
          .I = x.dim(3),
          .OH = y.dim(1),
          .OW = y.dim(2),
          .O = y.dim(3),
          .KH = w.dim(2),
          .KW = w.dim(3),
          .stride = options.stride,
          .before = {pad.top, pad.left},
          .after = {pad.bottom, pad.right},
          .ending = {},
          .tf32 = dtype == DType::F32 && tf32(),
          .compile = false};
}

bool run_convolution(const Convolution& problem, const ConvolutionBuffers& buffers) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  const bool measure = s.planning.measure && !is_recording();
  Kept& kept = s.kept.try_emplace({current_device(), problem}, Kept{nullptr, false}).first->second;
  const bool is_new = !kept.plan && !kept.measured;
  if (is_new || (measure && !kept.measured)) kept = choose(problem, buffers, measure);
  if (!kept.plan) {
    kept.measured = true;  // so as not to ask again
    return false;
  }
  try {
    run(*kept.plan, buffers);
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::OutOfMemory) throw;
    auto frugal = convolution_plans(problem, 1, 0);
    if (frugal.empty() || frugal[0]->workspace_bytes() >= kept.plan->workspace_bytes()) throw;
    kept.plan = std::move(frugal[0]);
    run(*kept.plan, buffers);
  }
  ++s.counts.runs;
  s.counts.fused_runs += problem.ending.any();
  return true;
}

}  // namespace sinopia::cuda
