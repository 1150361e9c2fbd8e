#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <vector>

namespace sinopia {

/// The checkpoints of a run: folders "step-00001200" of whatever files a trainer writes, with a list of them,
/// their sizes and their CRC-32 in "files.json". A folder appears under its name only when all of it is on
/// the disk, so that a crash, a kill or a full disk at any time leaves every older checkpoint as it was. One
/// process at a time.
class RunCheckpoints {
 public:
  struct Entry {
    int64_t step;
    std::filesystem::path folder;
  };

  /// Makes the folder, and removes what a save that did not end left there. Besides the newest `keep` (at
  /// least 1), those at multiples of `keep_every` steps stay; 0: none.
  RunCheckpoints(std::filesystem::path folder, int keep, int64_t keep_every = 0);

  /// `write` puts files, and folders of files, into the folder that it is given. If it throws, nothing stays
  /// of it. Throws Backend when the system refuses, as on a full disk. Replaces a checkpoint of that step in
  /// one step; removes those that are no longer to be kept.
  void save(int64_t step, const std::function<void(const std::filesystem::path&)>& write) const;

  /// Ascending by step, complete or not.
  std::vector<Entry> entries() const;
  /// The newest whose files all have their size and sum; absent if there is none. A broken one is passed over
  /// with a warning in the log.
  std::optional<Entry> newest() const;

 private:
  void prune() const;

  std::filesystem::path folder_;
  int keep_;
  int64_t keep_every_;
};

/// Throws Corrupt, naming the file, unless the folder is a checkpoint whose files are all as they were
/// written.
void verify_checkpoint(const std::filesystem::path& folder);

}  // namespace sinopia
