#pragma once

#include <stop_token>
#include <thread>

namespace sinopia::cli {

/// Turns the first Ctrl-C (or SIGTERM) into a request to stop, and ends the program at once at the second.
/// To be made first of all in main: threads started later leave the signals to this one.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  std::stop_token token() const { return stop_.get_token(); }

 private:
  std::stop_source stop_;
  std::jthread waiter_;
};

}  // namespace sinopia::cli
