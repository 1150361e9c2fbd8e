#pragma once

#include <stdexcept>
#include <string>
#include <utility>

#include <fmt/core.h>

namespace sinopia {

/// What went wrong, for a caller that wants to react rather than to read.
enum class ErrorKind {
  InvalidArgument,  ///< the request itself is wrong: a shape, a range, a name
  NotFound,         ///< a file, key or registered name does not exist
  Corrupt,          ///< bytes that break their format
  Unsupported,      ///< well formed, but not something this build can do
  OutOfMemory,      ///< an allocation or a memory limit
  Backend,          ///< the operating system, a device or a library failed
  Cancelled,        ///< the caller asked for it
};

/// "invalid argument", "not found", ...
const char* to_string(ErrorKind kind);

/// The one exception type of the library. what() says what was expected and what came.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

/// Throws Error(kind, formatted message).
template <class... Args>
[[noreturn]] void fail(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(kind, fmt::format(format, std::forward<Args>(args)...));
}

/// Throws unless the condition holds; the message is only built on failure.
#define SINOPIA_CHECK(condition, kind, ...)                     \
  do {                                                          \
    if (!(condition)) [[unlikely]]                              \
      ::sinopia::fail(::sinopia::ErrorKind::kind, __VA_ARGS__); \
  } while (false)

}  // namespace sinopia
