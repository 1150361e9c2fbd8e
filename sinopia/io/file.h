#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sinopia/tensor/storage.h"

namespace sinopia {

/// A whole file mapped read only. Its pages are read when touched, and Storage::drop_pages lets them go
/// again. Throws NotFound for a missing file, InvalidArgument for a folder, FIFO, socket or device, Backend
/// when the system refuses. The file must not be shortened while the storage lives.
std::shared_ptr<Storage> map_file(const std::filesystem::path& path);

/// The bytes of a regular file of at most `max_bytes`. Throws as map_file does, and Corrupt for a longer
/// file.
std::vector<uint8_t> read_file(const std::filesystem::path& path, size_t max_bytes);

/// As read_file, for text; a UTF-8 byte order mark is left out.
std::string read_text_file(const std::filesystem::path& path, size_t max_bytes);

/// A file that appears under its name only when it is complete. Bytes go to a temporary file in the same
/// folder; commit() brings them to the disk (fsync), renames over the target and brings the folder to the
/// disk. Without commit() the temporary is removed and an older file under that name stays as it was.
class AtomicFile {
 public:
  /// Throws NotFound if the folder is missing, InvalidArgument if the target is not a regular file, Backend
  /// otherwise.
  explicit AtomicFile(const std::filesystem::path& target);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Appends. Throws Backend naming the file and the reason, such as a full disk.
  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void commit();

 private:
  [[noreturn]] void fail_with_errno(const char* what) const;

  std::filesystem::path target_;
  std::string temporary_;
  int descriptor_ = -1;
};

/// Removes what AtomicFiles for targets in this folder have left there because their process was killed. No
/// one may be writing there meanwhile. Does nothing for a folder that there is not.
void remove_unfinished(const std::filesystem::path& folder);

/// A log: what is appended is in the file, though perhaps not on the disk, when the call returns. A piece
/// that a full disk cut is taken back.
class AppendedFile {
 public:
  /// Opens a file to go on with, or makes it. Throws as AtomicFile does.
  explicit AppendedFile(const std::filesystem::path& path);
  ~AppendedFile();
  AppendedFile(const AppendedFile&) = delete;
  AppendedFile& operator=(const AppendedFile&) = delete;
  /// Throws Backend naming the file and the reason.
  void append(std::string_view bytes);

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

/// Replaces or makes a file in one step, as AtomicFile does.
void write_file(const std::filesystem::path& path, std::span<const uint8_t> bytes);
void write_file(const std::filesystem::path& path, std::string_view text);

/// Makes a folder, and those that it lies in, where they are missing. Throws Backend naming it and the
/// reason.
void make_folder(const std::filesystem::path& folder);

/// Brings a folder's entries (new names, renames, removals) to the disk. Throws Backend.
void sync_folder(const std::filesystem::path& folder);

}  // namespace sinopia
