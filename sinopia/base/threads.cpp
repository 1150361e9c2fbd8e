#include "sinopia/base/threads.h"

#include <atomic>

#include <omp.h>

#include "sinopia/base/error.h"

namespace sinopia {
namespace {

std::atomic<int> requested_threads{0};

}  // namespace

int thread_count() {
  const int requested = requested_threads.load(std::memory_order_relaxed);
  // OpenMP's default already follows OMP_NUM_THREADS and the affinity mask of the process.
  static const int available = omp_get_max_threads();
  return requested > 0 ? requested : available;
}

void set_thread_count(int count) {
  SINOPIA_CHECK(count >= 0 && count <= 1024, InvalidArgument, "[threads] expected 0 to 1024 threads, got {}",
                count);
  requested_threads.store(count, std::memory_order_relaxed);
}

namespace detail {

void run_parallel(int64_t chunks, void* context, void (*run)(void* context, int64_t chunk)) {
  const int threads = omp_in_parallel() ? 1 : static_cast<int>(chunks < thread_count() ? chunks : thread_count());
  if (threads == 1) {
    for (int64_t i = 0; i < chunks; ++i) run(context, i);
    return;
  }
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (int64_t i = 0; i < chunks; ++i) run(context, i);
}

}  // namespace detail
}  // namespace sinopia
