#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/core.h>

namespace sinopia {

enum class LogLevel { Debug, Info, Warning };

/// Receives every message of the library, possibly from several threads at once.
using LogSink = std::function<void(LogLevel, std::string_view)>;

/// Replaces the sink and returns the old one. Without a sink, the default, messages are dropped:
/// the library itself never prints. Thread safe.
LogSink set_log_sink(LogSink sink);

void log_message(LogLevel level, std::string_view message);

template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_message(LogLevel::Info, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_message(LogLevel::Warning, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace sinopia
