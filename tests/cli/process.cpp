#include "process.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <thread>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

namespace sinopia::testing {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

std::string slurp(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

Process::Process(const std::vector<std::string>& arguments, const fs::path& folder)
    : out_(folder / "stdout"), err_(folder / "stderr") {
  std::vector<std::string> words = {SINOPIA_BINARY};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, out_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_addopen(&files, 2, err_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (posix_spawn(&pid_, argv[0], &files, nullptr, argv.data(), environ) != 0) pid_ = -1;
  posix_spawn_file_actions_destroy(&files);
}

Process::~Process() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
}

void Process::send(int signal) const { kill(pid_, signal); }

std::string Process::errors() const { return slurp(err_); }

Outcome Process::wait(double seconds) {
  Outcome outcome;
  const auto start = Clock::now();
  int status = 0;
  for (;;) {
    outcome.seconds = std::chrono::duration<double>(Clock::now() - start).count();
    if (waitpid(pid_, &status, WNOHANG) == pid_) break;
    if (outcome.seconds > seconds) {
      ADD_FAILURE() << "still running after " << seconds << " s: " << slurp(err_);
      kill(pid_, SIGKILL);
      waitpid(pid_, &status, 0);
      break;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  pid_ = -1;
  if (WIFEXITED(status)) outcome.code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) outcome.signal = WTERMSIG(status);
  outcome.out = slurp(out_);
  outcome.err = slurp(err_);
  return outcome;
}

Outcome run(const std::vector<std::string>& arguments, double seconds) {
  const TemporaryFolder folder;
  return Process(arguments, folder.path()).wait(seconds);
}

}  // namespace sinopia::testing
