#include "sinopia/backend/cuda/parameter_store.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "sinopia/backend/cuda/cuda_allocator.h"
#include "sinopia/backend/cuda/reclaim.h"
#include "sinopia/backend/cuda/recording.h"
#include "sinopia/backend/cuda/runtime.h"
#include "sinopia/backend/kernels.h"
#include "sinopia/base/error.h"

namespace sinopia {
namespace cuda {
namespace {

constexpr size_t kSlot = size_t{4} << 20, kSlots = 8;
constexpr size_t kAheadBytes = size_t{192} << 20;
constexpr int kAhead = 16;

// What this thread fetched last, most recent first.
struct Recent {
  std::array<std::shared_ptr<ResidentParameter>, ParameterStore::kKept> kept;
  std::array<uint64_t, kMaxGpus> last{};  // ids by device
};
Recent& recent() {
  thread_local Recent instance;
  return instance;
}

// True if the copy was the most recent one already.
bool keep(const std::shared_ptr<ResidentParameter>& copy) {
  auto& kept = recent().kept;
  if (kept.front() == copy) return true;
  auto found = std::find(kept.begin(), kept.end(), copy);
  if (found == kept.end()) {
    kept.back() = copy;
    found = kept.end() - 1;
  }
  std::rotate(kept.begin(), found, found + 1);
  return false;
}

Device cuda_device(int index) { return {DeviceType::Cuda, index}; }

Tensor lasting_tensor(int device, size_t bytes) {
  CudaAllocator& memory = cuda_allocator(device);
  auto storage =
      std::make_shared<Storage>(memory.allocate_lasting(bytes), bytes, cuda_device(device),
                                [&memory](void* data, size_t size) { memory.release(data, size); });
  return Tensor({static_cast<int64_t>(bytes)}, DType::U8, std::move(storage));
}

}  // namespace

ResidentParameter::ResidentParameter(int index, size_t bytes)
    : device(index), memory(lasting_tensor(index, bytes)) {
  check(cudaEventCreateWithFlags(&uploaded, cudaEventDisableTiming), "make an event");
  check(cudaEventCreateWithFlags(&vacated, cudaEventDisableTiming), "make an event");
  check(cudaEventRecord(vacated, stream(device)), "mark the device's work");
}

ResidentParameter::~ResidentParameter() {
  const RecordingPause pause;
  const DeviceScope scope(device);
  // Whoever has the memory next is queued on the device's stream.
  if (!awaited) cudaStreamWaitEvent(stream(device), uploaded, 0);
  cudaEventDestroy(uploaded);
  cudaEventDestroy(vacated);
}

ParameterStore& parameter_store(int device) {
  static auto* const all = new std::array<std::unique_ptr<ParameterStore>, kMaxGpus>;  // outlive all tensors
  static std::array<std::once_flag, kMaxGpus> made;
  const auto index = static_cast<size_t>(device);
  std::call_once(made.at(index), [&] {
    all->at(index) = std::make_unique<ParameterStore>(device);
    register_reclaimer([store = all->at(index).get(), device](size_t wanted) {
      return device == current_device() ? store->give_up(wanted) : 0;
    });
  });
  return *all->at(index);
}

ParameterStore::ParameterStore(int device) : device_(device), staging_(kSlot, kSlots) {
  const RecordingPause pause;
  const DeviceScope scope(device_);
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "make a stream");
}

Tensor ParameterStore::add(const Tensor& host, DType dtype) {
  if (is_quantised(host.dtype())) dtype = host.dtype();
  if (host.numel() == 0) return Tensor::empty(host.shape(), dtype, cuda_device(device_));
  auto owned = std::make_unique<StoredParameter>();
  owned->host = host;
  owned->dtype = dtype;
  const auto elements = static_cast<size_t>(host.numel());
  owned->bytes = elements / static_cast<size_t>(block_elements(dtype)) * block_bytes(dtype);
  {
    const std::lock_guard lock(mutex_);
    owned->id = ++ids_;
    all_.emplace(owned->id, owned.get());
    stats_.bytes += owned->bytes;
  }
  StoredParameter* const p = owned.get();
  const size_t bytes = p->bytes;
  std::shared_ptr<StoredParameter> shared(owned.release(), [this](StoredParameter* gone) {
    remove(*gone);
    delete gone;
  });
  auto storage = std::make_shared<Storage>(
      bytes, cuda_device(device_),
      Storage::Fetch([this, shared = std::move(shared)] { return fetch(*shared); }), Storage::Release());
  return Tensor(host.shape(), dtype, std::move(storage));
}

void ParameterStore::remove(StoredParameter& p) {
  const std::lock_guard lock(mutex_);
  if (p.resident) drop(p);
  if (p.uploads > 0) --absent_;
  all_.erase(p.id);
  stats_.bytes -= p.bytes;
}

void* ParameterStore::fetch(StoredParameter& p) {
  const std::lock_guard lock(mutex_);
  {
    const RecordingPause pause;
    const DeviceScope scope(device_);
    note_fetch(p);
    if (!p.resident) start(p);
    if (!p.resident->complete) upload(&p);
    if (!p.resident->awaited) {
      check(cudaStreamWaitEvent(stream(device_), p.resident->uploaded, 0), "wait for a parameter");
      p.resident->awaited = true;
    }
  }
  keep_while_recorded(p.resident);
  if (!keep(p.resident) && !is_recording()) {
    const DeviceScope scope(device_);
    look_ahead(p);
  }
  return p.resident->memory.raw();
}

void ParameterStore::note_fetch(StoredParameter& p) {
  uint64_t& before = recent().last[static_cast<size_t>(device_)];
  if (before == p.id) return;  // of the same kernel
  ++now_;
  p.period = p.last ? now_ - p.last : 0;
  p.last = now_;
  if (const auto found = all_.find(before); found != all_.end()) found->second->next = p.id;
  before = p.id;
}

void ParameterStore::start(StoredParameter& p) {
  if (p.host.dtype() != p.dtype && !unconverted_) unconverted_ = lasting_tensor(device_, kSlot);
  auto copy = std::make_shared<ResidentParameter>(device_, p.bytes);
  p.resident = std::move(copy);
  p.staged = 0;
  if (p.uploads++ > 0) --absent_;
  ++stats_.uploads;
  stats_.resident += p.bytes;
  uploading_.push_back(&p);
}

bool ParameterStore::start_ahead(StoredParameter& p) {
  const NoReclaiming only_parameters;
  constexpr int kMostGivenUp = 64;
  for (int i = 0; i < kMostGivenUp; ++i) {
    try {
      start(p);
      ++stats_.ahead;
      return true;
    } catch (const Error& e) {
      if (e.kind() != ErrorKind::OutOfMemory) throw;
    }
    StoredParameter* const other = least_wanted(p.expected);
    if (!other) return false;
    drop(*other);
  }
  return false;
}

void ParameterStore::look_ahead(const StoredParameter& p) {
  if (absent_ == 0 && uploading_.empty()) return;
  size_t bytes = 0;
  uint64_t id = p.next;
  for (int i = 1; i <= kAhead && absent_ > 0; ++i) {
    const auto found = all_.find(id);
    if (found == all_.end()) break;
    StoredParameter& next = *found->second;
    bytes += next.bytes;
    if (bytes > kAheadBytes) break;
    next.expected = now_ + static_cast<uint64_t>(i);
    if (!next.resident && !start_ahead(next)) break;
    id = next.next;
  }
  upload(nullptr);
}

void ParameterStore::upload(const StoredParameter* p) {
  if (p) {
    const auto place = std::find(uploading_.begin(), uploading_.end(), p);
    uploading_.splice(uploading_.begin(), uploading_, place);
  }
  while (!uploading_.empty()) {
    if (!p && staging_.busy()) return;
    StoredParameter& first = *uploading_.front();
    upload_part(first);
    if (!first.resident->complete) continue;
    uploading_.pop_front();
    if (&first == p) return;
  }
}

void ParameterStore::upload_part(StoredParameter& p) {
  const size_t block = block_bytes(p.host.dtype());
  const size_t part = std::min(p.host.bytes() - p.staged, kSlot / block * block);
  const char* const from = static_cast<const char*>(p.host.raw()) + p.staged;
  ResidentParameter& copy = *p.resident;
  char* const to = static_cast<char*>(copy.memory.raw());
  if (p.staged == 0) check(cudaStreamWaitEvent(stream_, copy.vacated, 0), "wait for the device's work");
  if (p.host.dtype() == p.dtype) {
    staging_.upload(to + p.staged, from, part, stream_);
  } else {
    staging_.upload(unconverted_.raw(), from, part, stream_);
    const auto elements = static_cast<int64_t>(part / block) * block_elements(p.host.dtype());
    const size_t begin =
        p.staged / block * static_cast<size_t>(block_elements(p.host.dtype())) * block_bytes(p.dtype);
    const Tensor x({elements}, p.host.dtype(), unconverted_.storage());
    Tensor y({elements}, p.dtype, copy.memory.storage(), begin);
    const StreamScope scope(stream_);
    kernels(cuda_device(device_)).convert(x, y);
  }
  check(cudaEventRecord(copy.uploaded, stream_), "mark a parameter");
  p.staged += part;
  copy.complete = p.staged == p.host.bytes();
  // What comes back is likely to come back again, and faster from pages that are still there.
  if (copy.complete && p.uploads == 1) p.host.drop_pages();
}

void ParameterStore::drop(StoredParameter& p) {
  uploading_.remove(&p);
  p.resident.reset();
  ++absent_;
  stats_.resident -= p.bytes;
}

uint64_t ParameterStore::next_use(const StoredParameter& p) const {
  if (p.expected > now_) return p.expected;
  return p.period == 0 || now_ > p.last + 2 * p.period ? 0 : p.last + p.period;
}

StoredParameter* ParameterStore::least_wanted(uint64_t needed) {
  StoredParameter* best = nullptr;
  uint64_t best_use = 0;
  for (const auto& [id, p] : all_) {
    if (!p->resident || p->resident.use_count() > 1) continue;
    const uint64_t use = next_use(*p);
    if (use > 0 && use <= needed) continue;
    const bool better = !best                           ? true
                        : (use == 0) != (best_use == 0) ? use == 0
                        : use == 0 || use == best_use   ? p->last < best->last
                                                        : use > best_use;
    if (!better) continue;
    best = p;
    best_use = use;
  }
  return best;
}

size_t ParameterStore::give_up(size_t wanted) {
  const std::lock_guard lock(mutex_);
  size_t given = 0;
  while (given < wanted) {
    StoredParameter* const p = least_wanted(0);
    if (!p) break;
    given += p->bytes;
    drop(*p);
  }
  return given;
}

void ParameterStore::give_up_all() {
  const std::lock_guard lock(mutex_);
  for (auto& copy : recent().kept)
    if (copy && copy->device == device_) copy.reset();
  for (const auto& [id, p] : all_)
    if (p->resident && p->resident.use_count() == 1) drop(*p);
}

ParameterStats ParameterStore::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

}  // namespace cuda

Tensor store_parameter(const Tensor& host, Device device, DType dtype) {
  if (device.is_cpu()) return host;
  SINOPIA_CHECK(host && host.device().is_cpu(), InvalidArgument,
                "[parameters] expected a parameter on the CPU, got {}", describe(host));
  return cuda::parameter_store(device.index).add(host, dtype);
}

void give_up_parameters(Device device) {
  if (!device.is_cpu()) cuda::parameter_store(device.index).give_up_all();
}

ParameterStats parameter_stats(Device device) {
  return device.is_cpu() ? ParameterStats{} : cuda::parameter_store(device.index).stats();
}

}  // namespace sinopia
