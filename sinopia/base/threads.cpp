#include "sinopia/base/threads.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "sinopia/base/error.h"
#include "sinopia/base/serial_section.h"

namespace sinopia {
namespace {

constexpr int kMaxThreads = 1024;
// Looks at the next job before a worker goes to sleep: some 20 us, which is about what waking it would cost.
// Longer spinning would take the cores from whatever else the machine runs.
constexpr int kSpins = 1000;

std::atomic<int> requested_threads{0};
thread_local bool inside_parallel = false;

void pause_core() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb");  // waits about as long; "yield" does nothing on most cores
#else
  std::this_thread::yield();
#endif
}

/// Workers that help whoever calls run(). Nobody waits for a worker that has not come yet: a job is closed as
/// soon as its last chunk has been taken, and only those at work on a chunk are waited for.
class ThreadPool {
 public:
  /// Calls run(context, i) for every chunk i on the calling thread and up to threads - 1 workers. One job at
  /// a time: false, and nothing done, if there is another.
  bool run(int64_t chunks, int threads, void* context, void (*run_chunk)(void*, int64_t)) {
    std::unique_lock owner(owner_mutex_, std::try_to_lock);
    if (!owner) return false;
    {
      std::lock_guard lock(mutex_);
      while (static_cast<int>(workers_) < threads - 1) {
        std::thread([this] { work(); }).detach();
        ++workers_;
      }
      context_ = context;
      run_chunk_ = run_chunk;
      chunks_ = chunks;
      next_.store(0, std::memory_order_relaxed);
      places_ = threads - 1;
      job_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    take_chunks();
    {
      std::lock_guard lock(mutex_);
      places_ = 0;
    }
    for (int i = 0; i < kSpins && active_.load(std::memory_order_acquire) > 0; ++i) pause_core();
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return active_ == 0; });
    return true;
  }

 private:
  void take_chunks() {
    inside_parallel = true;
    for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < chunks_;) run_chunk_(context_, i);
    inside_parallel = false;
  }

  void work() {
    uint64_t seen = 0;
    while (true) {
      for (int i = 0; i < kSpins && job_.load(std::memory_order_acquire) == seen; ++i) pause_core();
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return job_.load(std::memory_order_relaxed) != seen; });
        seen = job_.load(std::memory_order_relaxed);
        if (places_ == 0) continue;
        --places_;
        ++active_;
      }
      take_chunks();
      std::lock_guard lock(mutex_);
      if (--active_ == 0) done_.notify_one();
    }
  }

  std::mutex owner_mutex_;  // held by the thread whose job it is
  std::mutex mutex_;        // guards what follows
  std::condition_variable wake_, done_;
  int64_t workers_ = 0;
  int places_ = 0;              // workers that may still join the job
  std::atomic<int> active_{0};  // workers at it
  std::atomic<uint64_t> job_{0};
  // Written before a job opens, read by those who joined it.
  void* context_ = nullptr;
  void (*run_chunk_)(void*, int64_t) = nullptr;
  int64_t chunks_ = 0;
  std::atomic<int64_t> next_{0};
};

}  // namespace

SerialSection::SerialSection() : before_(inside_parallel) { inside_parallel = true; }
SerialSection::~SerialSection() { inside_parallel = before_; }

int thread_count() {
  const int requested = requested_threads.load(std::memory_order_relaxed);
  // The C library counts the cores in the affinity mask of the process.
  static const int available =
      std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kMaxThreads);
  return requested > 0 ? requested : available;
}

void set_thread_count(int count) {
  SINOPIA_CHECK(count >= 0 && count <= kMaxThreads, InvalidArgument,
                "[threads] expected 0 to {} threads, got {}", kMaxThreads + 0, count);
  requested_threads.store(count, std::memory_order_relaxed);
}

namespace detail {

void run_parallel(int64_t chunks, void* context, void (*run)(void* context, int64_t chunk)) {
  static ThreadPool* pool = new ThreadPool;  // outlives its workers, which end with the process
  const int threads = static_cast<int>(std::min<int64_t>(chunks, thread_count()));
  if (threads > 1 && !inside_parallel && pool->run(chunks, threads, context, run)) return;
  for (int64_t i = 0; i < chunks; ++i) run(context, i);
}

}  // namespace detail
}  // namespace sinopia
