#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sinopia/tensor/storage.h"

namespace sinopia {

/// One file inside a zip archive; every field has been checked against the archive's bounds.
struct ZipEntry {
  std::string name;
  bool stored = true;     ///< as it is; otherwise deflated
  uint64_t offset = 0;    ///< of its (packed) data in the archive
  uint64_t packed = 0;    ///< bytes in the archive
  uint64_t bytes = 0;     ///< bytes when unpacked
  uint32_t checksum = 0;  ///< CRC-32 of the unpacked bytes
};

/// The directory of a zip archive (also ZIP64) in memory or mapped. Only what checkpoints need: one volume,
/// entries stored or deflated. Throws Corrupt for broken bounds, entries that overlap or occur twice, and
/// names that are absolute or leave the archive; Unsupported for encryption, other compression, several
/// volumes, over 100,000 entries.
class ZipArchive {
 public:
  ZipArchive(std::shared_ptr<Storage> bytes, std::string_view name);

  /// In order of their names.
  const std::vector<ZipEntry>& entries() const { return entries_; }
  /// Null if there is none of that name.
  const ZipEntry* find(std::string_view name) const;
  const std::shared_ptr<Storage>& storage() const { return bytes_; }

  /// An entry's bytes with the checksum checked: a view of the archive, or unpacked into `buffer`. Throws
  /// Corrupt for a wrong checksum or size, and for more than `max_bytes`.
  std::string_view read(const ZipEntry& entry, size_t max_bytes, std::string& buffer) const;

  /// Throws Corrupt if a stored entry's checksum is wrong.
  void verify(const ZipEntry& entry) const;

 private:
  void read_directory(uint64_t begin, uint64_t size, uint64_t count);
  void locate(ZipEntry& entry, uint64_t header, uint64_t limit) const;

  std::shared_ptr<Storage> bytes_;
  std::string_view data_;
  std::string archive_;
  std::vector<ZipEntry> entries_;
};

}  // namespace sinopia
