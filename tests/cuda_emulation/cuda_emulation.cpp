#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <vector>

#include <boost/context/detail/fcontext.hpp>
#include <cuda_runtime.h>
#include <sys/mman.h>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

// What was asked of a stream and is not done yet. Usually all is done at once.
struct Queue {
  struct Item {
    std::function<void()> work;
    std::shared_ptr<Queue> other;  // whose items up to `number` are done first
    uint64_t number = 0;
  };
  std::deque<Item> items;
  uint64_t asked = 0, done = 0;
  unsigned speed = 0;  // of 16, how likely it gets on when anything is asked of any stream
};
struct CUstream_st {
  bool capturing = false, invalidated = false;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::vector<std::function<void()>> recorded;
  std::shared_ptr<Queue> queue = std::make_shared<Queue>();
};
struct CUevent_st {
  std::shared_ptr<Queue> queue;
  uint64_t number = 0;
};
struct CUgraph_st {
  std::vector<std::function<void()>> work;
};
struct CUgraphExec_st {
  std::vector<std::function<void()>> work;
};

namespace sinopia_emulation {
namespace {

using boost::context::detail::fcontext_t;
using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

constexpr size_t kStackBytes = size_t{256} << 10;
constexpr int kMaxThreads = 1024, kMaxWarps = kMaxThreads / 32;
constexpr int kDevices = 1, kMultiprocessors = 4, kMajor = 9, kMinor = 0;
constexpr size_t kSharedWithoutAsking = 48 << 10, kMaxShared = 227 << 10;

[[noreturn]] void give_up(const char* what) {
  std::fprintf(stderr, "CUDA emulation: %s (block %u,%u,%u thread %u,%u,%u)\n", what, blockIdx.x, blockIdx.y,
               blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
  std::abort();
}

struct Fiber {
  fcontext_t context = nullptr;
  uint3 index{};
  bool done = false;
  const uint64_t* gate = nullptr;  // what it waits for: a number that is no longer `seen`
  uint64_t seen = 0;
};

struct Warp {
  Slot slots[2][32];  // one collective's values may still be read while the next one's come in
  void* pointers[32];
  unsigned arrived = 0, mask = 0;  // of the lanes that take part in the present collective
  unsigned live = 0;               // lanes that have not ended
  uint64_t finished = 0;           // collectives
};

// The block that runs now.
struct Block {
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  fcontext_t scheduler = nullptr;
  size_t current = 0, live = 0;
  size_t at_barrier = 0;
  uint64_t barriers = 0, number = 0;
  int counting = 0, counted = 0;
  const std::function<void()>* body = nullptr;
};

Block block;
std::vector<unsigned char> shared_memory;
std::recursive_mutex mutex;

char* stacks() {
  static char* const memory =
      static_cast<char*>(mmap(nullptr, kStackBytes * kMaxThreads, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  return memory;
}

/// Lets others run until `number` changes.
void wait_for(const uint64_t& number) {
  Fiber& fiber = block.fibers[block.current];
  fiber.gate = &number;
  fiber.seen = number;
  const transfer_t back = jump_fcontext(block.scheduler, nullptr);
  block.scheduler = back.fctx;
  threadIdx = fiber.index;
}

void open_block_barrier() {
  block.at_barrier = 0;
  block.counted = std::exchange(block.counting, 0);
  ++block.barriers;
}

void open_warp(Warp& warp) {
  warp.arrived = 0;
  ++warp.finished;
}

void run_fiber(transfer_t from) {
  block.scheduler = from.fctx;
  Fiber& fiber = block.fibers[block.current];
  threadIdx = fiber.index;
  (*block.body)();
  fiber.done = true;
  --block.live;
  // Those that have ended do not hold up the others.
  if (block.at_barrier > 0 && block.at_barrier == block.live) open_block_barrier();
  Warp& warp = block.warps[block.current / 32];
  warp.live &= ~(1u << (block.current % 32));
  if (warp.arrived != 0 && warp.arrived == (warp.mask & warp.live)) open_warp(warp);
  jump_fcontext(block.scheduler, nullptr);
}

void run_block(const dim3& shape, const std::function<void()>& body) {
  const size_t threads = size_t{shape.x} * shape.y * shape.z;
  block.fibers.assign(threads, {});
  block.warps.resize((threads + 31) / 32);
  for (Warp& warp : block.warps) warp.arrived = 0, warp.live = 0, warp.finished = 0;
  block.live = threads;
  block.at_barrier = 0;
  ++block.number;
  block.barriers = 0;
  block.counting = 0;
  block.body = &body;
  for (size_t i = 0; i < threads; ++i) {
    Fiber& fiber = block.fibers[i];
    const auto n = static_cast<unsigned>(i);
    fiber.index = {n % shape.x, n / shape.x % shape.y, n / shape.x / shape.y};
    fiber.context = make_fcontext(stacks() + (i + 1) * kStackBytes, kStackBytes, run_fiber);
    block.warps[i / 32].live |= 1u << (i % 32);
  }
  while (block.live > 0) {
    bool resumed = false;
    for (size_t i = 0; i < threads; ++i) {
      Fiber& fiber = block.fibers[i];
      if (fiber.done || (fiber.gate && *fiber.gate == fiber.seen)) continue;
      resumed = true;
      fiber.gate = nullptr;
      block.current = i;
      fiber.context = jump_fcontext(fiber.context, nullptr).fctx;
    }
    if (!resumed) give_up("the threads of a block wait for each other at different places");
  }
}

// Which lanes of the current warp must take part: those of `mask` that exist and have not ended.
unsigned expected_lanes(unsigned mask) { return block.warps[block.current / 32].live & mask; }

// Waits for the others of the warp; the last one calls `last`.
template <class Last>
void meet(unsigned mask, Last last) {
  Warp& warp = block.warps[block.current / 32];
  const unsigned mine = 1u << (block.current % 32);
  if (!(mask & mine)) give_up("a lane takes part in a collective whose mask leaves it out");
  if (warp.arrived & mine) give_up("a lane came twice to a collective");
  if (warp.arrived != 0 && warp.mask != mask) give_up("lanes meet with different masks");
  warp.arrived |= mine;
  warp.mask = mask;
  if (warp.arrived != expected_lanes(mask)) return wait_for(warp.finished);
  last();
  open_warp(warp);
}

struct Memory {
  std::map<char*, size_t> device, host;
  size_t in_use = 0, limit = 0;
  uint64_t kernels = 0, graphs = 0;
  std::map<const void*, size_t> shared_limits;
  cudaError_t last = cudaSuccess;
  int capturing_globally = 0;
  bool late = false;
  std::mt19937 random;
  std::vector<std::weak_ptr<Queue>> queues;
};
Memory& memory() {
  static auto* const all = new Memory;  // outlives whoever frees last
  return *all;
}

const std::pair<char* const, size_t>* allocation(const std::map<char*, size_t>& from, const void* data) {
  char* const place = const_cast<char*>(static_cast<const char*>(data));
  auto next = from.upper_bound(place);
  if (next == from.begin()) return nullptr;
  --next;
  return place < next->first + next->second ? &*next : nullptr;
}

cudaError_t noted(cudaError_t status) {
  if (status != cudaSuccess) memory().last = status;
  return status;
}

thread_local cudaStreamCaptureMode mode_of_thread = cudaStreamCaptureModeGlobal;
thread_local int captures_of_thread = 0;  // but for those begun in relaxed mode

// For calls that a thread may not make while it records, unless it says that it knows what it does.
cudaError_t outside_capture() {
  const bool refused = mode_of_thread != cudaStreamCaptureModeRelaxed &&
                       (captures_of_thread > 0 ||
                        (mode_of_thread == cudaStreamCaptureModeGlobal && memory().capturing_globally > 0));
  return refused ? noted(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

// Does what a queue was asked for, up to its item `number`.
void run_until(Queue& queue, uint64_t number) {
  while (queue.done < number && !queue.items.empty()) {
    const Queue::Item item = std::move(queue.items.front());
    queue.items.pop_front();
    if (item.other) run_until(*item.other, item.number);
    if (item.work) item.work();
    ++queue.done;
  }
}

void run_all() {
  for (const auto& weak : memory().queues)
    if (const auto queue = weak.lock()) run_until(*queue, queue->asked);
}

void ask(Queue& queue, Queue::Item item) {
  queue.items.push_back(std::move(item));
  ++queue.asked;
  Memory& m = memory();
  if (!m.late) return run_until(queue, queue.asked);
  // Any stream may get on at any time, some of them hardly ever.
  for (const auto& weak : m.queues) {
    const auto other = weak.lock();
    if (other && m.random() % 16 < other->speed) run_until(*other, other->done + 1 + m.random() % 3);
  }
}

unsigned any_speed() {
  constexpr unsigned kSpeeds[] = {0, 1, 4, 12};
  return kSpeeds[memory().random() % 4];
}

cudaError_t enqueue_on(cudaStream_t stream, std::function<void()> work) {
  if (!stream) {
    work();
  } else if (stream->capturing) {
    stream->recorded.push_back(std::move(work));
  } else {
    ask(*stream->queue, {std::move(work), nullptr});
  }
  return cudaSuccess;
}

}  // namespace

const Slot* exchange(unsigned mask, const void* value, size_t bytes) {
  Warp& warp = block.warps[block.current / 32];
  Slot* const slots = warp.slots[warp.finished % 2];
  std::memcpy(slots[block.current % 32].bytes, value, bytes);
  meet(mask, [] {});
  return slots;
}

void together(void* mine, const std::function<void(void* const* lanes)>& work) {
  Warp& warp = block.warps[block.current / 32];
  warp.pointers[block.current % 32] = mine;
  if (expected_lanes(~0u) != ~0u) give_up("a collective of the whole warp without all its lanes");
  meet(~0u, [&] { work(warp.pointers); });
}

int block_count(int predicate) {
  block.counting += predicate != 0;
  if (++block.at_barrier == block.live) {
    open_block_barrier();
  } else {
    wait_for(block.barriers);
  }
  return block.counted;
}

void block_barrier() { block_count(0); }
void warp_barrier(unsigned mask) {
  meet(mask, [] {});
}
void* dynamic_shared() { return shared_memory.data(); }
uint64_t blocks_run() { return block.number; }

void set_memory(size_t bytes) { memory().limit = bytes; }
size_t memory_in_use() { return memory().in_use; }
void set_late(bool late, unsigned seed) {
  const std::lock_guard lock(mutex);
  run_all();
  memory().late = late;
  memory().random.seed(seed);
  for (const auto& weak : memory().queues)
    if (const auto queue = weak.lock()) queue->speed = any_speed();
}
uint64_t kernels_launched() { return memory().kernels; }
uint64_t graphs_launched() { return memory().graphs; }
bool is_device_memory(const void* data, size_t bytes) {
  const std::lock_guard lock(mutex);
  const auto* found = allocation(memory().device, data);
  return found && static_cast<const char*>(data) + bytes <= found->first + found->second;
}
int enqueue(void* stream, std::function<void()> work) {
  const std::lock_guard lock(mutex);
  return enqueue_on(static_cast<cudaStream_t>(stream), std::move(work));
}

cudaError_t set_attribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  const std::lock_guard lock(mutex);
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || static_cast<size_t>(value) > kMaxShared) return noted(cudaErrorInvalidValue);
  memory().shared_limits[kernel] = static_cast<size_t>(value);
  return cudaSuccess;
}

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, std::function<void()> body) {
  const std::lock_guard lock(mutex);
  const dim3 grid = config.gridDim, shape = config.blockDim;
  const size_t threads = size_t{shape.x} * shape.y * shape.z;
  const bool sound = threads >= 1 && threads <= kMaxThreads && shape.z <= 64 && grid.x >= 1 && grid.y >= 1 &&
                     grid.z >= 1 && grid.x <= 0x7fffffffu && grid.y <= 65535 && grid.z <= 65535;
  const auto limit = memory().shared_limits.find(kernel);
  const size_t allowed = limit == memory().shared_limits.end()
                             ? kSharedWithoutAsking
                             : std::max(limit->second, kSharedWithoutAsking);
  if (!sound || config.dynamicSmemBytes > allowed) return noted(cudaErrorInvalidConfiguration);
  return enqueue_on(config.stream, [grid, shape, shared = config.dynamicSmemBytes, body = std::move(body)] {
    if (block.live > 0) give_up("a kernel launched by a kernel");
    ++memory().kernels;
    gridDim = grid;
    blockDim = shape;
    for (unsigned z = 0; z < grid.z; ++z)
      for (unsigned y = 0; y < grid.y; ++y)
        for (unsigned x = 0; x < grid.x; ++x) {
          blockIdx = {x, y, z};
          shared_memory.assign(shared + 1024, 0xff);
          run_block(shape, body);
        }
  });
}

}  // namespace sinopia_emulation

using namespace sinopia_emulation;

unsigned __ballot_sync(unsigned mask, int predicate) {
  const int mine = predicate != 0;
  const unsigned lanes = expected_lanes(mask);
  const Slot* slots = exchange(mask, &mine, sizeof mine);
  unsigned votes = 0;
  for (int i = 0; i < 32; ++i)
    if ((lanes >> i & 1) && from_lane<int>(slots, i)) votes |= 1u << i;
  return votes;
}
unsigned __activemask() { return expected_lanes(~0u); }

const char* cudaGetErrorName(cudaError_t status) {
  return status == cudaSuccess ? "cudaSuccess" : "cudaError";
}
const char* cudaGetErrorString(cudaError_t status) {
  switch (status) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    default:
      return "an error of the emulated device";
  }
}
cudaError_t cudaGetLastError() { return std::exchange(memory().last, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return memory().last; }
cudaError_t cudaGetDeviceCount(int* count) {
  *count = kDevices;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  return device >= 0 && device < kDevices ? cudaSuccess : noted(cudaErrorInvalidDevice);
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = kMultiprocessors;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = kMajor;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = kMinor;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(kMaxShared);
      return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = 2048;
      return cudaSuccess;
  }
  return noted(cudaErrorInvalidValue);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return noted(cudaErrorInvalidDevice);
  *properties = {"emulated GPU", size_t{8} << 30, kMajor, kMinor, kMultiprocessors, kMaxShared};
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) { return cudaDriverGetVersion(version); }
cudaError_t cudaDeviceSynchronize() {
  const std::lock_guard lock(mutex);
  if (const cudaError_t status = outside_capture()) return status;
  run_all();
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  const std::lock_guard lock(mutex);
  *total = memory().limit ? memory().limit : size_t{8} << 30;
  *free = *total - std::min(*total, memory().in_use);
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** data, size_t bytes) {
  const std::lock_guard lock(mutex);
  if (const cudaError_t status = outside_capture()) return status;
  Memory& m = memory();
  if (m.limit && m.in_use + bytes > m.limit) return noted(cudaErrorMemoryAllocation);
  const size_t rounded = (std::max<size_t>(bytes, 1) + 255) / 256 * 256;
  *data = std::aligned_alloc(256, rounded);
  if (!*data) return noted(cudaErrorMemoryAllocation);
  std::memset(*data, 0xff, rounded);  // NaN in f32, f16 and bf16
  m.device[static_cast<char*>(*data)] = bytes;
  m.in_use += bytes;
  return cudaSuccess;
}
cudaError_t cudaFree(void* data) {
  const std::lock_guard lock(mutex);
  if (!data) return cudaSuccess;
  if (const cudaError_t status = outside_capture()) return status;
  run_all();
  const auto found = memory().device.find(static_cast<char*>(data));
  if (found == memory().device.end()) return noted(cudaErrorInvalidValue);
  memory().in_use -= found->second;
  memory().device.erase(found);
  std::free(data);
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** data, size_t bytes) {
  const std::lock_guard lock(mutex);
  if (const cudaError_t status = outside_capture()) return status;
  *data = std::aligned_alloc(256, (std::max<size_t>(bytes, 1) + 255) / 256 * 256);
  if (!*data) return noted(cudaErrorMemoryAllocation);
  memory().host[static_cast<char*>(*data)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** data, size_t bytes, unsigned) { return cudaMallocHost(data, bytes); }
cudaError_t cudaFreeHost(void* data) {
  const std::lock_guard lock(mutex);
  run_all();
  if (!memory().host.erase(static_cast<char*>(data))) return noted(cudaErrorInvalidValue);
  std::free(data);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const std::lock_guard lock(mutex);
  const bool to_device = is_device_memory(to, bytes), from_device = is_device_memory(from, bytes);
  const bool partly =
      (!to_device && allocation(memory().device, to)) || (!from_device && allocation(memory().device, from));
  const bool as_said = kind == cudaMemcpyDefault ||
                       (to_device == (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) &&
                        from_device == (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice));
  if (partly || !as_said) return noted(cudaErrorInvalidValue);
  // Of the host's memory only what is pinned is read and written later.
  if (!from_device && !allocation(memory().host, from) && !(stream && stream->capturing)) {
    const auto* data = static_cast<const char*>(from);
    return enqueue_on(stream, [=, copy = std::vector<char>(data, data + bytes)] {
      if (bytes > 0) std::memcpy(to, copy.data(), bytes);
    });
  }
  const cudaError_t status = enqueue_on(stream, [=] { std::memmove(to, from, bytes); });
  if (!to_device && !allocation(memory().host, to) && stream && !stream->capturing)
    run_until(*stream->queue, stream->queue->asked);
  return status;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  if (const cudaError_t status = outside_capture()) return status;
  return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  const std::lock_guard lock(mutex);
  if (!is_device_memory(to, bytes)) return noted(cudaErrorInvalidValue);
  return enqueue_on(stream, [=] { std::memset(to, value, bytes); });
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  const std::lock_guard lock(mutex);
  *stream = new CUstream_st;
  (*stream)->queue->speed = any_speed();
  std::erase_if(memory().queues, [](const auto& queue) { return queue.expired(); });
  memory().queues.push_back((*stream)->queue);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const std::lock_guard lock(mutex);
  run_until(*stream->queue, stream->queue->asked);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const std::lock_guard lock(mutex);
  if (stream && stream->capturing) {
    stream->invalidated = true;
    return noted(cudaErrorStreamCaptureUnsupported);
  }
  if (const cudaError_t status = outside_capture()) return status;
  if (stream) run_until(*stream->queue, stream->queue->asked);
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const std::lock_guard lock(mutex);
  if (!stream || stream->capturing) return noted(cudaErrorStreamCaptureUnsupported);  // not emulated
  if (event->queue) ask(*stream->queue, {nullptr, event->queue, event->number});
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const std::lock_guard lock(mutex);
  if (!stream || stream->capturing) return cudaSuccess;
  event->queue = stream->queue;
  event->number = stream->queue->asked;
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const std::lock_guard lock(mutex);
  if (const cudaError_t status = outside_capture()) return status;
  if (event->queue) run_until(*event->queue, event->number);
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const std::lock_guard lock(mutex);
  if (const cudaError_t status = outside_capture()) return status;
  return !event->queue || event->queue->done >= event->number ? cudaSuccess : noted(cudaErrorNotReady);
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 1;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  std::swap(*mode, mode_of_thread);
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  const std::lock_guard lock(mutex);
  if (!stream || stream->capturing) return noted(cudaErrorStreamCaptureUnsupported);
  stream->capturing = true;
  stream->invalidated = false;
  stream->recorded.clear();
  stream->mode = mode;
  captures_of_thread += mode != cudaStreamCaptureModeRelaxed;
  memory().capturing_globally += mode == cudaStreamCaptureModeGlobal;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const std::lock_guard lock(mutex);
  *graph = nullptr;
  if (!stream || !stream->capturing) return noted(cudaErrorInvalidValue);
  stream->capturing = false;
  captures_of_thread -= stream->mode != cudaStreamCaptureModeRelaxed;
  memory().capturing_globally -= stream->mode == cudaStreamCaptureModeGlobal;
  if (stream->invalidated) return noted(cudaErrorStreamCaptureInvalidated);
  *graph = new CUgraph_st{std::move(stream->recorded)};
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = !stream || !stream->capturing ? cudaStreamCaptureStatusNone
            : stream->invalidated         ? cudaStreamCaptureStatusInvalidated
                                          : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  const std::lock_guard lock(mutex);
  if (stream && stream->capturing) return noted(cudaErrorStreamCaptureUnsupported);
  return enqueue_on(stream, [items = executable->work] {
    ++memory().graphs;
    for (const auto& work : items) work();
  });
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
