#include "sinopia/train/data/tensor_cache.h"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>
#include <zlib.h>

#include "sinopia/base/error.h"
#include "sinopia/base/log.h"
#include "sinopia/io/safetensors.h"
#include "sinopia/io/sha256.h"

namespace sinopia {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSumKey = "crc32";
constexpr const char* kEnding = ".safetensors";

bool holds_only(std::string_view text, std::string_view allowed) {
  return text.find_first_not_of(allowed) == std::string_view::npos;
}

/// Of names, types, shapes and elements.
std::string sum_of(const TensorMap& tensors) {
  uLong crc = crc32_z(0, nullptr, 0);
  const auto add = [&](const void* data, size_t bytes) {
    if (bytes > 0) crc = crc32_z(crc, static_cast<const Bytef*>(data), bytes);
  };
  for (const auto& [name, tensor] : tensors) {
    const std::string title = fmt::format("{} {}\n", name, describe(tensor));
    add(title.data(), title.size());
    add(tensor.raw(), tensor.bytes());
  }
  return fmt::format("{:08x}", crc);
}

uint64_t size_of_file(const fs::path& path) {
  std::error_code missing;
  const auto bytes = fs::file_size(path, missing);
  return missing ? 0 : bytes;
}

}  // namespace

std::string hash_of_tensors(const TensorMap& tensors) {
  std::string all;
  for (const auto& [name, tensor] : tensors)
    all += name + sha256_hex({static_cast<const uint8_t*>(tensor.raw()), tensor.bytes()});
  return sha256_hex_of_text(all).substr(0, 16);
}

TensorCache::TensorCache(const fs::path& folder, const std::string& maker, uint64_t max_bytes)
    : folder_(folder / maker), maker_(maker), max_bytes_(max_bytes) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
  SINOPIA_CHECK(!maker.empty() && maker.size() <= 100 && maker[0] != '.' && holds_only(maker, kAllowed),
                InvalidArgument, "[cache] expected a name of letters, digits, '-', '_' and '.', got '{}'",
                maker);
  try {
    fs::create_directories(folder_);
    for (const auto& entry : fs::recursive_directory_iterator(folder_)) {
      if (entry.is_regular_file() && entry.path().extension() == kEnding)
        bytes_ += size_of_file(entry.path());
    }
  } catch (const fs::filesystem_error& error) {
    fail(ErrorKind::Backend, "[cache] {}", error.what());
  }
}

fs::path TensorCache::path_of(const std::string& content_hash) const {
  SINOPIA_CHECK(content_hash.size() == 64 && holds_only(content_hash, "0123456789abcdef"), InvalidArgument,
                "[cache] expected a hash of 64 hexadecimal digits, got '{}'", content_hash.substr(0, 100));
  return folder_ / content_hash.substr(0, 2) / (content_hash + kEnding);
}

std::optional<TensorMap> TensorCache::find(const std::string& content_hash) const {
  const fs::path path = path_of(content_hash);
  try {
    TensorFile file = read_safetensors(path);
    const auto sum = file.metadata.find(kSumKey);
    SINOPIA_CHECK(sum != file.metadata.end() && sum->second == sum_of(file.tensors), Corrupt,
                  "[cache] the check sum of '{}' is wrong", path.string());
    return std::move(file.tensors);
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::NotFound) return std::nullopt;
    if (error.kind() != ErrorKind::Corrupt && error.kind() != ErrorKind::Unsupported) throw;
    log_warning("{}; '{}' is made again", error.what(), path.string());
    return std::nullopt;
  }
}

TensorMap TensorCache::get(const std::string& content_hash, const Make& make) {
  if (auto found = find(content_hash)) return *std::move(found);
  TensorMap made = make();
  keep(content_hash, made);
  return made;
}

void TensorCache::keep(const std::string& content_hash, const TensorMap& tensors) {
  const fs::path path = path_of(content_hash);
  uint64_t payload = 0;
  for (const auto& [name, tensor] : tensors) payload += tensor.bytes();
  const std::lock_guard lock(mutex_);
  const uint64_t before = size_of_file(path);
  bytes_ -= std::min(bytes_, before);
  std::error_code ignored;
  const auto refuse = [&] {
    fs::remove(path, ignored);
    if (!full_) log_info("[cache] '{}' is full: {} of {} bytes", folder_.string(), bytes_, max_bytes_);
    full_ = true;
  };
  if (bytes_ > max_bytes_ || payload > max_bytes_ - bytes_) return refuse();
  fs::create_directory(path.parent_path(), ignored);
  write_safetensors(path,
                    {tensors, {{kSumKey, sum_of(tensors)}, {"content", content_hash}, {"maker", maker_}}});
  const uint64_t written = size_of_file(path);
  if (written > max_bytes_ - bytes_) return refuse();
  bytes_ += written;
}

uint64_t TensorCache::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

}  // namespace sinopia
