#include "sinopia/base/log.h"

#include <mutex>

namespace sinopia {
namespace {

std::mutex sink_mutex;
LogSink current_sink;

}  // namespace

LogSink set_log_sink(LogSink sink) {
  std::lock_guard lock(sink_mutex);
  return std::exchange(current_sink, std::move(sink));
}

void log_message(LogLevel level, std::string_view message) {
  LogSink sink;
  {
    std::lock_guard lock(sink_mutex);
    sink = current_sink;
  }
  if (sink) sink(level, message);
}

}  // namespace sinopia
