#include "sinopia/io/tar.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "sinopia/base/error.h"
#include "sinopia/io/archive_name.h"

namespace sinopia {
namespace {

constexpr size_t kBlock = 512;
constexpr size_t kMaxExtraBytes = size_t{1} << 20;  // of a long name or a pax header

std::string_view text_at(std::string_view header, size_t at, size_t bytes) {
  const std::string_view field = header.substr(at, bytes);
  return field.substr(0, std::min(field.find('\0'), field.size()));
}

// Octal digits between spaces and zeros, or, for what is too large for that, the bytes of a number with the
// highest bit set.
std::optional<uint64_t> number_at(std::string_view header, size_t at, size_t bytes) {
  const std::string_view field = header.substr(at, bytes);
  uint64_t value = 0;
  if (static_cast<uint8_t>(field[0]) & 0x80) {
    for (size_t i = 0; i < field.size(); ++i) {
      const uint64_t byte = static_cast<uint8_t>(field[i]) & (i == 0 ? 0x7fu : 0xffu);
      if (value >> 55) return std::nullopt;
      value = value << 8 | byte;
    }
    return value;
  }
  std::string_view digits = text_at(header, at, bytes);
  while (digits.starts_with(' ')) digits.remove_prefix(1);
  while (digits.ends_with(' ')) digits.remove_suffix(1);
  if (digits.empty()) return 0;
  const auto [rest, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 8);
  if (error != std::errc() || rest != digits.data() + digits.size()) return std::nullopt;
  return value;
}

bool is_zero(std::string_view bytes) { return bytes.find_first_not_of('\0') == std::string_view::npos; }

// The sum of the header's bytes, its own field taken as spaces.
bool has_right_sum(std::string_view header) {
  constexpr size_t kBegin = 148, kBytes = 8;
  uint64_t sum = kBytes * ' ';
  for (size_t i = 0; i < header.size(); ++i) {
    if (i < kBegin || i >= kBegin + kBytes) sum += static_cast<uint8_t>(header[i]);
  }
  return number_at(header, kBegin, kBytes) == sum;
}

std::string name_of(std::string_view header) {
  const std::string name(text_at(header, 0, 100));
  const std::string_view prefix = text_at(header, 345, 155);
  const bool posix = header.substr(257, 6) == std::string_view("ustar\0", 6);
  return posix && !prefix.empty() ? std::string(prefix) + "/" + name : name;
}

/// What pax headers and GNU's long names say about the next member, or about all that follow.
struct Override {
  std::optional<std::string> name;
  std::optional<uint64_t> bytes;
};

}  // namespace

TarArchive::TarArchive(std::shared_ptr<Storage> bytes, std::string_view name)
    : bytes_(std::move(bytes)),
      data_(static_cast<const char*>(bytes_->data()), bytes_->bytes()),
      archive_(name) {
  read_headers();
  std::ranges::sort(entries_, {}, &TarEntry::name);
  const auto twice = std::ranges::adjacent_find(entries_, {}, &TarEntry::name);
  SINOPIA_CHECK(twice == entries_.end(), Corrupt, "[tar] {}: '{}' occurs twice", archive_, twice->name);
}

void TarArchive::read_headers() {
  Override next, all;
  const auto read_pax = [&](std::string_view records, Override& to) {
    while (!records.empty()) {  // "LENGTH KEY=VALUE\n", the length that of the whole record
      size_t length = 0;
      const auto [rest, error] = std::from_chars(records.data(), records.data() + records.size(), length);
      const size_t digits = static_cast<size_t>(rest - records.data());
      SINOPIA_CHECK(error == std::errc() && length > digits + 1 && length <= records.size() &&
                        records[digits] == ' ' && records[length - 1] == '\n',
                    Corrupt, "[tar] {}: a broken pax header", archive_);
      const std::string_view record = records.substr(digits + 1, length - digits - 2);
      const size_t equals = record.find('=');
      SINOPIA_CHECK(equals != std::string_view::npos, Corrupt, "[tar] {}: a broken pax header", archive_);
      const std::string_view key = record.substr(0, equals), value = record.substr(equals + 1);
      SINOPIA_CHECK(!key.starts_with("GNU.sparse."), Unsupported, "[tar] {}: a sparse file", archive_);
      if (key == "path") to.name = value;
      if (key == "size") {
        uint64_t bytes = 0;
        const auto [end, wrong] = std::from_chars(value.data(), value.data() + value.size(), bytes);
        SINOPIA_CHECK(wrong == std::errc() && end == value.data() + value.size(), Corrupt,
                      "[tar] {}: a broken pax header", archive_);
        to.bytes = bytes;
      }
      records.remove_prefix(length);
    }
  };

  for (size_t at = 0;;) {
    SINOPIA_CHECK(data_.size() - at >= kBlock, Corrupt, "[tar] {}: cut off at byte {}", archive_,
                  data_.size());
    const std::string_view header = data_.substr(at, kBlock);
    if (is_zero(header)) {
      SINOPIA_CHECK(is_zero(data_.substr(at)), Corrupt, "[tar] {}: goes on after its end at byte {}",
                    archive_, at);
      return;
    }
    SINOPIA_CHECK(has_right_sum(header), Corrupt, "[tar] {}: a wrong checksum at byte {}", archive_, at);
    const char kind = header[156];
    const bool describes = kind == 'x' || kind == 'g' || kind == 'L' || kind == 'K';
    const auto said = number_at(header, 124, 12);
    SINOPIA_CHECK(said, Corrupt, "[tar] {}: no size in the header at byte {}", archive_, at);
    uint64_t bytes = *said;
    if (!describes) bytes = next.bytes.value_or(all.bytes.value_or(bytes));
    // Links, devices and folders have no bytes, whatever the field says.
    if (kind >= '1' && kind <= '6') bytes = 0;
    at += kBlock;
    const uint64_t left = data_.size() - at;
    SINOPIA_CHECK(bytes <= left, Corrupt,
                  "[tar] {}: cut off: the member at byte {} has {} bytes, {} are there", archive_,
                  at - kBlock, bytes, left);
    const std::string_view content = data_.substr(at, bytes);
    if (describes) {
      SINOPIA_CHECK(bytes <= kMaxExtraBytes, Corrupt, "[tar] {}: a header of {} bytes", archive_, bytes);
      if (kind == 'x') read_pax(content, next);
      if (kind == 'g') read_pax(content, all);
      if (kind == 'L') next.name = text_at(content, 0, bytes);
    } else {
      std::string name = next.name.value_or(all.name.value_or(name_of(header)));
      while (name.starts_with("./")) name.erase(0, 2);
      const bool folder = kind == '5' || name.ends_with('/') || name.empty();
      if ((kind == '0' || kind == '\0' || kind == '7') && !folder) {
        SINOPIA_CHECK(is_safe_archive_name(name), Corrupt, "[tar] {}: a member is named '{}'", archive_,
                      name.substr(0, 100));
        entries_.push_back({std::move(name), at, bytes});
      } else {
        SINOPIA_CHECK((kind >= '0' && kind <= '7') || kind == '\0' || kind == 'V', Unsupported,
                      "[tar] {}: '{}' is a member of kind '{}'", archive_, name.substr(0, 100), kind);
      }
      next = {};
    }
    at += std::min<uint64_t>(left, (bytes + kBlock - 1) / kBlock * kBlock);
  }
}

const TarEntry* TarArchive::find(std::string_view name) const {
  const auto found = std::ranges::lower_bound(entries_, name, {},
                                              [](const TarEntry& e) { return std::string_view(e.name); });
  return found != entries_.end() && found->name == name ? &*found : nullptr;
}

}  // namespace sinopia
