#pragma once

namespace sinopia {

/// While one that is on lives, layers give the pages of their mapped weights back as soon as they have used
/// them, and the system reads them again from the file when they are next needed: less memory, and less
/// speed where the file does not fit into the page cache. For the whole process; results do not change.
class WeightStreaming {
 public:
  explicit WeightStreaming(bool on);
  ~WeightStreaming();
  WeightStreaming(const WeightStreaming&) = delete;
  WeightStreaming& operator=(const WeightStreaming&) = delete;

  static bool is_on();

 private:
  bool on_;
};

}  // namespace sinopia
