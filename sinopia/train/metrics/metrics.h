#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sinopia/io/image.h"

namespace sinopia {

/// Numbers of one step by name ("loss", "validation/loss", ..), in the order in which they are to be shown.
using Scalars = std::vector<std::pair<std::string, double>>;

/// Where a run's numbers go. What is written is in the file when the call returns.
class MetricsWriter {
 public:
  virtual ~MetricsWriter() = default;
  virtual void scalars(int64_t step, const Scalars& values) = 0;
  /// Pictures are kept by those writers that can.
  virtual void image(int64_t step, const std::string& name, const Image& image) = 0;
};

/// One JSON object a line: {"step": 12, "loss": 0.1234}; numbers that are not finite become null. Goes on
/// with an existing file: lines from `first_step` on, of steps that a resumed run takes again, and a line
/// that was cut are removed first. Throws Corrupt for a file that holds other lines, Backend when the system
/// refuses.
std::unique_ptr<MetricsWriter> json_lines_metrics(const std::filesystem::path& file, int64_t first_step);

/// TensorBoard's event files, one a start of the run, in `folder`; scalars and pictures. A resumed run's file
/// begins with a session mark by which TensorBoard drops steps from `first_step` on of older files.
std::unique_ptr<MetricsWriter> tensorboard_metrics(const std::filesystem::path& folder, int64_t first_step);

struct StepScalars {
  int64_t step = 0;
  Scalars values;
};
/// What json_lines_metrics wrote; null reads as NaN.
std::vector<StepScalars> read_json_lines_metrics(const std::filesystem::path& file);

}  // namespace sinopia
