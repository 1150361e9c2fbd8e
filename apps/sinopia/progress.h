#pragma once

#include <string>

#include "sinopia/base/clock.h"
#include "sinopia/pipelines/request.h"

namespace sinopia::cli {

/// Shows how far something is on stderr: on a terminal one line that is rewritten, else a line each time.
class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine();
  void show(const Progress& progress);
  void show(const std::string& line);
  bool on_terminal() const { return terminal_; }
  /// Ends the line, so that other text can follow.
  void finish();

 private:
  bool terminal_;
  bool open_ = false;
};

/// "12.3 s", "4:07", "1:02:09"
std::string format_duration(double seconds);
/// "812 MB", "3.1 GB"
std::string format_bytes(size_t bytes);

}  // namespace sinopia::cli
