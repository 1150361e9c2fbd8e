#pragma once

#include <cstdint>
#include <exception>
#include <mutex>

namespace sinopia {

/// Number of threads that parallel_for uses: the cores this process may run on, unless set.
int thread_count();

/// Sets it for the whole process; 0 goes back to the default. Throws InvalidArgument below 0 or above 1024.
void set_thread_count(int count);

namespace detail {
void run_parallel(int64_t chunks, void* context, void (*run)(void* context, int64_t chunk));
}

/// Calls body(begin, end) on [0,count) cut into pieces of `grain` (the last may be shorter), on all threads.
/// The cuts depend on count and grain alone, so that a body whose result depends on its piece gives the same
/// bits for any number of threads. The first exception of a body is thrown again here. Nested calls, and
/// those made while another thread is in one, run on the calling thread alone.
template <class Body>
void parallel_for(int64_t count, int64_t grain, const Body& body) {
  if (count <= 0) return;
  if (grain < 1) grain = 1;
  if (count <= grain) return body(int64_t{0}, count);
  struct Context {
    const Body& body;
    int64_t count, grain;
    std::exception_ptr error;
    std::mutex mutex;
  } context{body, count, grain, nullptr, {}};
  detail::run_parallel((count + grain - 1) / grain, &context, [](void* pointer, int64_t chunk) {
    auto& c = *static_cast<Context*>(pointer);
    const int64_t begin = chunk * c.grain;
    const int64_t end = begin + c.grain < c.count ? begin + c.grain : c.count;
    try {
      c.body(begin, end);
    } catch (...) {
      std::lock_guard lock(c.mutex);
      if (!c.error) c.error = std::current_exception();
    }
  });
  if (context.error) std::rethrow_exception(context.error);
}

}  // namespace sinopia
