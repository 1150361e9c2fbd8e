#include "sinopia/io/file.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sinopia/base/error.h"

namespace sinopia {
namespace {

namespace fs = std::filesystem;

class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return value_; }

 private:
  int value_;
};

[[noreturn]] void fail_system(const char* what, const fs::path& path, int error) {
  const bool missing = error == ENOENT || error == ENOTDIR;
  fail(missing ? ErrorKind::NotFound : ErrorKind::Backend, "[file] cannot {} '{}': {}", what, path.string(),
       std::strerror(error));
}

const char* name_of_type(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

// O_NONBLOCK keeps open() from waiting for the other end of a FIFO; it does nothing to regular files.
int open_regular(const fs::path& path, size_t& bytes) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) fail_system("open", path, errno);
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) {
    const int error = errno;
    ::close(descriptor);
    fail_system("inspect", path, error);
  }
  if (!S_ISREG(status.st_mode)) {
    ::close(descriptor);
    fail(ErrorKind::InvalidArgument, "[file] expected a file, '{}' is {}", path.string(),
         name_of_type(status.st_mode));
  }
  bytes = static_cast<size_t>(status.st_size);
  return descriptor;
}

void drop_mapped_pages(const void* data, size_t bytes) {
  static const uintptr_t page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const uintptr_t begin = reinterpret_cast<uintptr_t>(data) / page * page;
  const uintptr_t end = reinterpret_cast<uintptr_t>(data) + bytes;
  if (bytes) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

template <class Bytes>
Bytes read_bytes(const fs::path& path, size_t max_bytes) {
  size_t bytes = 0;
  const Descriptor file(open_regular(path, bytes));
  SINOPIA_CHECK(bytes <= max_bytes, Corrupt, "[file] expected at most {} bytes, '{}' has {}", max_bytes,
                path.string(), bytes);
  Bytes content(bytes, 0);
  size_t done = 0;
  while (done < bytes) {
    const ssize_t count = ::read(file.get(), content.data() + done, bytes - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_system("read", path, errno);
    SINOPIA_CHECK(count > 0, Backend, "[file] '{}' became shorter while it was read", path.string());
    done += static_cast<size_t>(count);
  }
  return content;
}

/// Writes all of it; 0, or the error.
int write_fully(int descriptor, const char* from, size_t bytes) {
  while (bytes > 0) {
    const ssize_t count = ::write(descriptor, from, std::min(bytes, size_t{1} << 30));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return count < 0 ? errno : ENOSPC;
    from += count;
    bytes -= static_cast<size_t>(count);
  }
  return 0;
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

}  // namespace

std::shared_ptr<Storage> map_file(const fs::path& path) {
  size_t bytes = 0;
  const Descriptor file(open_regular(path, bytes));
  if (bytes == 0) return std::make_shared<Storage>(nullptr, 0, Device{}, nullptr);
  void* data = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (data == MAP_FAILED) fail_system("map", path, errno);
  return std::make_shared<Storage>(
      data, bytes, Device{}, [](void* begin, size_t size) { ::munmap(begin, size); }, drop_mapped_pages);
}

std::vector<uint8_t> read_file(const fs::path& path, size_t max_bytes) {
  return read_bytes<std::vector<uint8_t>>(path, max_bytes);
}

std::string read_text_file(const fs::path& path, size_t max_bytes) {
  std::string text = read_bytes<std::string>(path, max_bytes);
  if (text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);
  return text;
}

AtomicFile::AtomicFile(const fs::path& target) : target_(target) {
  struct stat status {};
  const bool exists = ::stat(target.c_str(), &status) == 0;
  SINOPIA_CHECK(!exists || S_ISREG(status.st_mode), InvalidArgument, "[file] expected a file, '{}' is {}",
                target.string(), name_of_type(status.st_mode));
  temporary_ = (folder_of(target) / fmt::format(".{}.XXXXXX", target.filename().string())).string();
  descriptor_ = ::mkostemp(temporary_.data(), O_CLOEXEC);
  if (descriptor_ < 0) fail_system("make a file for", target, errno);
  // mkostemp makes files private; the result gets the rights that any new file would, or those it had before.
  const mode_t mask = ::umask(0);
  ::umask(mask);
  ::fchmod(descriptor_, exists ? status.st_mode & 07777 : 0666 & ~mask);
}

void remove_unfinished(const fs::path& folder) {
  constexpr size_t kLetters = 6;  // of mkostemp
  std::error_code none;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, none)) {
    const std::string name = entry.path().filename().string();
    const size_t dot = name.size() > kLetters ? name.size() - kLetters - 1 : 0;
    const bool ours = dot > 1 && name.front() == '.' && name[dot] == '.' && entry.is_regular_file(none) &&
                      std::all_of(name.begin() + static_cast<std::ptrdiff_t>(dot) + 1, name.end(),
                                  [](unsigned char c) { return std::isalnum(c); });
    if (ours) fs::remove(entry.path(), none);
  }
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::fail_with_errno(const char* what) const { fail_system(what, target_, errno); }

void AtomicFile::write(const void* data, size_t bytes) {
  SINOPIA_CHECK(descriptor_ >= 0, InvalidArgument, "[file] '{}' is already committed", target_.string());
  const int error = write_fully(descriptor_, static_cast<const char*>(data), bytes);
  if (error != 0) fail_system("write", target_, error);
}

void AtomicFile::commit() {
  SINOPIA_CHECK(descriptor_ >= 0, InvalidArgument, "[file] '{}' is already committed", target_.string());
  if (::fsync(descriptor_) != 0) fail_with_errno("write");
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail_with_errno("name");
  const int descriptor = std::exchange(descriptor_, -1);
  if (::close(descriptor) != 0) fail_with_errno("close");
  sync_folder(folder_of(target_));
}

AppendedFile::AppendedFile(const fs::path& path) : path_(path) {
  struct stat status {};
  SINOPIA_CHECK(::stat(path.c_str(), &status) != 0 || S_ISREG(status.st_mode), InvalidArgument,
                "[file] expected a file, '{}' is {}", path.string(), name_of_type(status.st_mode));
  descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail_system("open", path, errno);
}

AppendedFile::~AppendedFile() { ::close(descriptor_); }

void AppendedFile::append(std::string_view bytes) {
  struct stat before {};
  if (::fstat(descriptor_, &before) != 0) fail_system("inspect", path_, errno);
  const int error = write_fully(descriptor_, bytes.data(), bytes.size());
  if (error == 0) return;
  // The error that counts is the first.
  if (::ftruncate(descriptor_, before.st_size) != 0) fail_system("write, and then to shorten,", path_, error);
  fail_system("write", path_, error);
}

void write_file(const fs::path& path, std::span<const uint8_t> bytes) {
  AtomicFile file(path);
  file.write(bytes.data(), bytes.size());
  file.commit();
}

void write_file(const fs::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  SINOPIA_CHECK(!error, Backend, "[file] cannot make the folder '{}': {}", folder.string(), error.message());
}

void sync_folder(const fs::path& folder) {
  const Descriptor descriptor(::open(folder.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECTORY));
  if (descriptor.get() < 0) fail_system("open", folder, errno);
  // Some file systems cannot sync a folder and say EINVAL; there is nothing more to do on those.
  if (::fsync(descriptor.get()) != 0 && errno != EINVAL) fail_system("sync", folder, errno);
}

}  // namespace sinopia
