#include "sinopia/io/zip.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include <zlib.h>

#include "sinopia/base/error.h"
#include "sinopia/io/archive_name.h"

namespace sinopia {
namespace {

constexpr uint32_t kEndSignature = 0x06054b50;
constexpr uint32_t kEnd64Signature = 0x06064b50;
constexpr uint32_t kLocator64Signature = 0x07064b50;
constexpr uint32_t kDirectorySignature = 0x02014b50;
constexpr uint32_t kLocalSignature = 0x04034b50;
constexpr size_t kEndBytes = 22, kEnd64Bytes = 56, kLocator64Bytes = 20, kDirectoryBytes = 46,
                 kLocalBytes = 30;
constexpr size_t kMaxComment = 65535;
constexpr size_t kMaxEntries = 100'000;
constexpr uint16_t kZip64Field = 1;
constexpr uint32_t kElsewhere = 0xffffffff;  // the value is in the ZIP64 field

template <class T>
T read_at(std::string_view bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

uint32_t checksum_of(std::string_view bytes) {
  uLong crc = 0;
  constexpr size_t kPiece = size_t{1} << 30;
  for (size_t at = 0; at < bytes.size(); at += kPiece) {
    const std::string_view piece = bytes.substr(at, kPiece);
    crc = crc32(crc, reinterpret_cast<const Bytef*>(piece.data()), static_cast<uInt>(piece.size()));
  }
  return static_cast<uint32_t>(crc);
}

}  // namespace

ZipArchive::ZipArchive(std::shared_ptr<Storage> bytes, std::string_view name)
    : bytes_(std::move(bytes)),
      data_(static_cast<const char*>(bytes_->data()), bytes_->bytes()),
      archive_(name) {
  SINOPIA_CHECK(data_.size() >= kEndBytes, Corrupt, "[zip] {}: cut off at byte {}", archive_, data_.size());
  const size_t lowest = data_.size() - std::min(data_.size(), kEndBytes + kMaxComment);
  size_t end = data_.size() - kEndBytes;
  // The record ends the file, but for a comment whose length it tells.
  while (read_at<uint32_t>(data_, end) != kEndSignature ||
         end + kEndBytes + read_at<uint16_t>(data_, end + 20) != data_.size()) {
    SINOPIA_CHECK(end-- > lowest, Corrupt, "[zip] {}: no directory; the file is cut off or no zip archive",
                  archive_);
  }
  uint64_t count = read_at<uint16_t>(data_, end + 10);
  uint64_t size = read_at<uint32_t>(data_, end + 12);
  uint64_t begin = read_at<uint32_t>(data_, end + 16);
  uint64_t limit = end;
  bool one_volume = read_at<uint16_t>(data_, end + 4) == 0 || read_at<uint16_t>(data_, end + 4) == 0xffff;
  if (end >= kLocator64Bytes && read_at<uint32_t>(data_, end - kLocator64Bytes) == kLocator64Signature) {
    const uint64_t end64 = read_at<uint64_t>(data_, end - kLocator64Bytes + 8);
    SINOPIA_CHECK(end64 <= end - kLocator64Bytes && end - kLocator64Bytes - end64 >= kEnd64Bytes &&
                      read_at<uint32_t>(data_, end64) == kEnd64Signature,
                  Corrupt, "[zip] {}: a broken ZIP64 record", archive_);
    one_volume = read_at<uint32_t>(data_, end64 + 16) == 0;
    count = read_at<uint64_t>(data_, end64 + 32);
    size = read_at<uint64_t>(data_, end64 + 40);
    begin = read_at<uint64_t>(data_, end64 + 48);
    limit = end64;
  }
  SINOPIA_CHECK(one_volume, Unsupported, "[zip] {}: several volumes", archive_);
  SINOPIA_CHECK(begin <= limit && size <= limit - begin, Corrupt, "[zip] {}: the directory leaves the file",
                archive_);
  SINOPIA_CHECK(count <= kMaxEntries, Unsupported, "[zip] {}: more than {} entries", archive_,
                kMaxEntries + 0);
  read_directory(begin, size, count);
}

void ZipArchive::read_directory(uint64_t begin, uint64_t size, uint64_t count) {
  SINOPIA_CHECK(count <= size / kDirectoryBytes, Corrupt,
                "[zip] {}: a directory of {} bytes has no {} entries", archive_, size, count);
  const std::string_view directory = data_.substr(begin, size);
  entries_.reserve(count);
  size_t at = 0;
  for (uint64_t i = 0; i < count; ++i) {
    SINOPIA_CHECK(
        directory.size() - at >= kDirectoryBytes && read_at<uint32_t>(directory, at) == kDirectorySignature,
        Corrupt, "[zip] {}: a broken directory", archive_);
    const uint16_t flags = read_at<uint16_t>(directory, at + 8);
    const uint16_t method = read_at<uint16_t>(directory, at + 10);
    const size_t name_bytes = read_at<uint16_t>(directory, at + 28);
    const size_t extra_bytes = read_at<uint16_t>(directory, at + 30);
    const size_t comment_bytes = read_at<uint16_t>(directory, at + 32);
    const size_t record_bytes = kDirectoryBytes + name_bytes + extra_bytes + comment_bytes;
    SINOPIA_CHECK(record_bytes <= directory.size() - at, Corrupt, "[zip] {}: a broken directory", archive_);
    ZipEntry entry;
    entry.name = directory.substr(at + kDirectoryBytes, name_bytes);
    SINOPIA_CHECK(is_safe_archive_name(entry.name), Corrupt, "[zip] {}: an entry is named '{}'", archive_,
                  entry.name.substr(0, 100));
    constexpr uint16_t kEncrypted = 1 | 1 << 6 | 1 << 13;
    SINOPIA_CHECK(!(flags & kEncrypted), Unsupported, "[zip] {}: '{}' is encrypted", archive_, entry.name);
    SINOPIA_CHECK(method == 0 || method == 8, Unsupported, "[zip] {}: '{}' has compression {}", archive_,
                  entry.name, method);
    entry.stored = method == 0;
    entry.checksum = read_at<uint32_t>(directory, at + 16);
    entry.packed = read_at<uint32_t>(directory, at + 20);
    entry.bytes = read_at<uint32_t>(directory, at + 24);
    uint64_t header = read_at<uint32_t>(directory, at + 42);
    std::string_view extra = directory.substr(at + kDirectoryBytes + name_bytes, extra_bytes);
    while (extra.size() >= 4) {
      const uint16_t kind = read_at<uint16_t>(extra, 0);
      const size_t bytes = read_at<uint16_t>(extra, 2);
      SINOPIA_CHECK(bytes <= extra.size() - 4, Corrupt, "[zip] {}: a broken field of '{}'", archive_,
                    entry.name);
      std::string_view field = extra.substr(4, bytes);
      for (uint64_t* value : {&entry.bytes, &entry.packed, &header}) {
        if (kind != kZip64Field || *value != kElsewhere) continue;
        SINOPIA_CHECK(field.size() >= 8, Corrupt, "[zip] {}: a broken ZIP64 field of '{}'", archive_,
                      entry.name);
        *value = read_at<uint64_t>(field, 0);
        field.remove_prefix(8);
      }
      extra.remove_prefix(4 + bytes);
    }
    locate(entry, header, begin);
    entries_.push_back(std::move(entry));
    at += record_bytes;
  }

  std::ranges::sort(entries_, {}, &ZipEntry::offset);
  uint64_t end = 0;
  for (const ZipEntry& entry : entries_) {
    SINOPIA_CHECK(entry.offset >= end, Corrupt, "[zip] {}: '{}' overlaps another entry", archive_,
                  entry.name);
    end = entry.offset + entry.packed;
  }
  std::ranges::sort(entries_, {}, &ZipEntry::name);
  const auto twice = std::ranges::adjacent_find(entries_, {}, &ZipEntry::name);
  SINOPIA_CHECK(twice == entries_.end(), Corrupt, "[zip] {}: '{}' occurs twice", archive_, twice->name);
}

// The data follow a second header, whose fields may have other lengths than the directory's.
void ZipArchive::locate(ZipEntry& entry, uint64_t header, uint64_t limit) const {
  SINOPIA_CHECK(
      header <= limit && limit - header >= kLocalBytes && read_at<uint32_t>(data_, header) == kLocalSignature,
      Corrupt, "[zip] {}: no header for '{}'", archive_, entry.name);
  const size_t name_bytes = read_at<uint16_t>(data_, header + 26);
  entry.offset = header + kLocalBytes + name_bytes + read_at<uint16_t>(data_, header + 28);
  SINOPIA_CHECK(entry.offset <= limit && entry.packed <= limit - entry.offset, Corrupt,
                "[zip] {}: '{}' leaves the file", archive_, entry.name);
  SINOPIA_CHECK(data_.substr(header + kLocalBytes, name_bytes) == entry.name, Corrupt,
                "[zip] {}: '{}' has another name in its header", archive_, entry.name);
  SINOPIA_CHECK(!entry.stored || entry.packed == entry.bytes, Corrupt,
                "[zip] {}: the sizes of '{}' do not agree", archive_, entry.name);
}

const ZipEntry* ZipArchive::find(std::string_view name) const {
  const auto found = std::ranges::lower_bound(entries_, name, {},
                                              [](const ZipEntry& e) { return std::string_view(e.name); });
  return found != entries_.end() && found->name == name ? &*found : nullptr;
}

void ZipArchive::verify(const ZipEntry& entry) const {
  SINOPIA_CHECK(checksum_of(data_.substr(entry.offset, entry.packed)) == entry.checksum, Corrupt,
                "[zip] {}: the checksum of '{}' is wrong", archive_, entry.name);
}

std::string_view ZipArchive::read(const ZipEntry& entry, size_t max_bytes, std::string& buffer) const {
  SINOPIA_CHECK(entry.bytes <= max_bytes, Corrupt, "[zip] {}: '{}' has {} bytes, more than {}", archive_,
                entry.name, entry.bytes, max_bytes);
  const std::string_view packed = data_.substr(entry.offset, entry.packed);
  if (entry.stored) {
    verify(entry);
    return packed;
  }
  // Deflate packs at most 1032 to 1; what claims more is refused before memory is asked for.
  SINOPIA_CHECK(entry.bytes / 1032 <= entry.packed && entry.packed <= std::numeric_limits<uInt>::max(),
                Corrupt, "[zip] {}: the sizes of '{}' do not agree", archive_, entry.name);
  buffer.resize(entry.bytes);
  z_stream stream{};
  constexpr int kWithoutZlibHeader = -MAX_WBITS;
  SINOPIA_CHECK(inflateInit2(&stream, kWithoutZlibHeader) == Z_OK, OutOfMemory, "[zip] cannot start zlib");
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  stream.next_out = reinterpret_cast<Bytef*>(buffer.data());
  stream.avail_out = static_cast<uInt>(buffer.size());
  const int state = inflate(&stream, Z_FINISH);
  const bool whole = state == Z_STREAM_END && stream.avail_out == 0 && stream.avail_in == 0;
  inflateEnd(&stream);
  SINOPIA_CHECK(whole && checksum_of(buffer) == entry.checksum, Corrupt, "[zip] {}: '{}' does not unpack",
                archive_, entry.name);
  return buffer;
}

}  // namespace sinopia
