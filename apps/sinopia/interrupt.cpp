#include "interrupt.h"

#include <csignal>

#include <unistd.h>

namespace sinopia::cli {
namespace {

sigset_t stop_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  return signals;
}

}  // namespace

Interrupt::Interrupt() {
  const sigset_t signals = stop_signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe is a failed write, not the end of the program
  waiter_ = std::jthread([this](const std::stop_token& end) {
    const sigset_t awaited = stop_signals();
    for (;;) {
      int signal = 0;
      sigwait(&awaited, &signal);
      if (end.stop_requested()) return;
      if (stop_.stop_requested()) _exit(1);
      stop_.request_stop();
    }
  });
}

Interrupt::~Interrupt() {
  waiter_.request_stop();
  pthread_kill(waiter_.native_handle(), SIGTERM);  // wakes it
}

}  // namespace sinopia::cli
