#include "progress.h"

#include <cmath>
#include <cstdio>

#include <fmt/format.h>
#include <unistd.h>

namespace sinopia::cli {
namespace {

std::string describe(const Progress& p) {
  const std::string image = p.images > 1 ? fmt::format("image {}/{}, ", p.image + 1, p.images) : "";
  switch (p.stage) {
    case Stage::Text:
      return "reading the prompt";
    case Stage::Encode:
      return image + "encoding the input picture";
    case Stage::Decode:
      return image + "decoding";
    case Stage::Done:
      return image + "done";
    case Stage::Sample:
      break;
  }
  std::string line = fmt::format("{}step {}/{}", image, p.step, p.steps);
  if (p.step > 0)
    line += fmt::format(", {:.3g} s/step, {} left", p.seconds_per_step, format_duration(p.seconds_left));
  return line + ", " + format_bytes(p.memory);
}

}  // namespace

std::string format_duration(double seconds) {
  if (seconds < 60) return fmt::format("{:.1f} s", seconds);
  const auto whole = std::llround(seconds);
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string format_bytes(size_t bytes) {
  const double mb = static_cast<double>(bytes) / 1e6;
  return mb < 1000 ? fmt::format("{:.0f} MB", mb) : fmt::format("{:.1f} GB", mb / 1000);
}

ProgressLine::ProgressLine() : terminal_(isatty(STDERR_FILENO) == 1) {}

ProgressLine::~ProgressLine() { finish(); }

void ProgressLine::show(const Progress& progress) { show(describe(progress)); }

void ProgressLine::show(const std::string& line) {
  if (terminal_)
    fmt::print(stderr, "\r\x1b[K{}", line);
  else
    fmt::print(stderr, "{}\n", line);
  std::fflush(stderr);
  open_ = terminal_;
}

void ProgressLine::finish() {
  if (open_) fmt::print(stderr, "\r\x1b[K");
  std::fflush(stderr);
  open_ = false;
}

}  // namespace sinopia::cli
