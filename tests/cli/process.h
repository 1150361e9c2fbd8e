#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <sys/types.h>

#include "tests/temporary_folder.h"

namespace sinopia::testing {

struct Outcome {
  int code = -1;    ///< exit status; -1 after a signal
  int signal = 0;   ///< that ended it
  std::string out;  ///< standard output
  std::string err;
  double seconds = 0;
};

/// The program under test with its output in files of a folder.
class Process {
 public:
  Process(const std::vector<std::string>& arguments, const std::filesystem::path& folder);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void send(int signal) const;
  /// What it has written to stderr so far.
  std::string errors() const;
  /// Waits for the end; kills it and fails the test after `seconds`.
  Outcome wait(double seconds = 60);

 private:
  pid_t pid_ = -1;
  std::filesystem::path out_, err_;
};

/// Runs `sinopia ARGUMENTS..` to its end.
Outcome run(const std::vector<std::string>& arguments, double seconds = 60);

std::string slurp(const std::filesystem::path& path);

}  // namespace sinopia::testing
