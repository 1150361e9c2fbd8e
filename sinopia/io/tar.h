#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sinopia/tensor/storage.h"

namespace sinopia {

/// One regular file inside a tar archive, within the archive's bounds.
struct TarEntry {
  std::string name;
  uint64_t offset = 0;  ///< of its bytes in the archive
  uint64_t bytes = 0;
};

/// The files of an uncompressed tar archive in memory or mapped, as tar, Python's tarfile and WebDataset
/// write them: v7, ustar, pax (POSIX.1-2001) and GNU long names. Headers are read once; folders, links and
/// devices are left out, a leading "./" is dropped. Throws Corrupt for a wrong checksum, an archive that is
/// cut off (no block of zeros ends it) or goes on after its end, a name that occurs twice, is absolute or
/// leaves the archive; Unsupported for sparse files, several volumes and unknown kinds of members.
class TarArchive {
 public:
  TarArchive(std::shared_ptr<Storage> bytes, std::string_view name);

  /// In byte order of their names.
  const std::vector<TarEntry>& entries() const { return entries_; }
  /// Null if there is none of that name.
  const TarEntry* find(std::string_view name) const;
  /// An entry's bytes, where they lie in the archive.
  std::string_view read(const TarEntry& entry) const { return data_.substr(entry.offset, entry.bytes); }
  const std::shared_ptr<Storage>& storage() const { return bytes_; }

 private:
  void read_headers();

  std::shared_ptr<Storage> bytes_;
  std::string_view data_;
  std::string archive_;
  std::vector<TarEntry> entries_;
};

}  // namespace sinopia
