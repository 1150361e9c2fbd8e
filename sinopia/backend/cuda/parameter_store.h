#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>

#include <cuda_runtime.h>

#include "sinopia/backend/cuda/staging.h"
#include "sinopia/backend/parameter_store.h"

namespace sinopia::cuda {

/// The copy of a parameter that is on the device.
struct ResidentParameter {
  ResidentParameter(int device, size_t bytes);
  ~ResidentParameter();
  ResidentParameter(const ResidentParameter&) = delete;
  ResidentParameter& operator=(const ResidentParameter&) = delete;

  int device;
  Tensor memory;
  cudaEvent_t vacated = nullptr;  ///< the device's stream is done with what used the memory before
  cudaEvent_t uploaded = nullptr;
  bool complete = false;  ///< all of it is queued, and then `uploaded`
  bool awaited = false;   ///< the device's stream waits for it
};

/// A parameter of store_parameter().
struct StoredParameter {
  uint64_t id = 0;  ///< 0 is no one
  Tensor host;
  DType dtype = DType::F32;
  size_t bytes = 0;
  std::shared_ptr<ResidentParameter> resident;  ///< null while it is not there
  size_t staged = 0;                            ///< bytes of `host` that are queued
  uint64_t uploads = 0;
  // In fetches: when it was last fetched, how long after the time before (0 if there was none), what
  // followed.
  uint64_t last = 0, period = 0, next = 0;
  uint64_t expected = 0;  ///< the fetch that look_ahead() took it for
};

/// The parameters of one device. They are uploaded on a stream of their own, which waits for the device's
/// before it touches memory that is new to it, and which the device's waits for before it reads them. A copy
/// is in use while someone else shares it: this thread's last kKept fetches, recordings. Thread safe.
class ParameterStore {
 public:
  static constexpr size_t kKept = 32;  ///< fetches of a thread that stay whatever comes

  explicit ParameterStore(int device);
  Tensor add(const Tensor& host, DType dtype);
  void give_up_all();
  size_t give_up(size_t wanted);
  ParameterStats stats() const;

 private:
  void* fetch(StoredParameter& p);
  void remove(StoredParameter& p);
  void note_fetch(StoredParameter& p);
  void start(StoredParameter& p);
  bool start_ahead(StoredParameter& p);
  void look_ahead(const StoredParameter& p);
  /// Queues uploads in their order: until `p` is complete, or, for null, for as long as that needs no
  /// waiting.
  void upload(const StoredParameter* p);
  void upload_part(StoredParameter& p);
  void drop(StoredParameter& p);
  /// When it will be wanted next, going by its past; 0 if that tells nothing.
  uint64_t next_use(const StoredParameter& p) const;
  /// What to give up next; null if all are in use or wanted before `needed`.
  StoredParameter* least_wanted(uint64_t needed);

  const int device_;
  mutable std::recursive_mutex mutex_;  // an upload that is short of memory calls give_up()
  std::unordered_map<uint64_t, StoredParameter*> all_;
  std::list<StoredParameter*> uploading_;
  cudaStream_t stream_ = nullptr;
  Staging staging_;
  Tensor unconverted_;  // a slot's bytes in the type that they are stored in
  uint64_t ids_ = 0, now_ = 0;
  size_t absent_ = 0;  // parameters that were there and are not
  ParameterStats stats_;
};

ParameterStore& parameter_store(int device);

}  // namespace sinopia::cuda
