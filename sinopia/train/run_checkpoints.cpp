#include "sinopia/train/run_checkpoints.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <zlib.h>

#include "sinopia/base/error.h"
#include "sinopia/base/log.h"
#include "sinopia/io/file.h"
#include "sinopia/io/json_file.h"

namespace sinopia {
namespace {

namespace fs = std::filesystem;

constexpr const char* kList = "files.json";
constexpr const char* kPrefix = "step-";
constexpr const char* kUnfinished = ".unfinished";

std::string name_of(int64_t step) { return fmt::format("{}{:08}", kPrefix, step); }

std::optional<int64_t> step_of(const std::string& name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + std::strlen(kPrefix), end, step);
  return error == std::errc() && rest == end && step >= 0 && name == name_of(step) ? std::optional(step)
                                                                                   : std::nullopt;
}

uint32_t crc_of(const fs::path& file) {
  const auto bytes = map_file(file);
  const auto* data = static_cast<const Bytef*>(bytes->data());
  uLong crc = crc32_z(0, nullptr, 0);
  if (bytes->bytes() > 0) crc = crc32_z(crc, data, bytes->bytes());
  bytes->drop_pages(0, bytes->bytes());
  return static_cast<uint32_t>(crc);
}

/// Every file below, with its size and sum; every folder brought to the disk.
nlohmann::json list_of(const fs::path& folder) {
  nlohmann::json files = nlohmann::json::object();
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_directory()) {
      sync_folder(entry.path());
    } else {
      files[entry.path().lexically_relative(folder).generic_string()] = {{"bytes", entry.file_size()},
                                                                         {"crc32", crc_of(entry.path())}};
    }
  }
  return files;
}

/// Gives `from` the name `to`; what had it is then called `from`.
void put_in_place(const fs::path& from, const fs::path& to) {
  const unsigned flags = fs::exists(to) ? RENAME_EXCHANGE : RENAME_NOREPLACE;
  SINOPIA_CHECK(::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags) == 0, Backend,
                "[checkpoint] cannot name '{}': {}", to.string(), std::strerror(errno));
}

}  // namespace

RunCheckpoints::RunCheckpoints(fs::path folder, int keep, int64_t keep_every)
    : folder_(std::move(folder)), keep_(keep), keep_every_(keep_every) {
  SINOPIA_CHECK(keep >= 1 && keep_every >= 0, InvalidArgument,
                "[checkpoint] expected to keep 1 or more, and those every 0 or more steps, got {} and {}",
                keep, keep_every);
  make_folder(folder_);
  fs::remove_all(folder_ / kUnfinished);
}

void RunCheckpoints::save(int64_t step, const std::function<void(const fs::path&)>& write) const {
  SINOPIA_CHECK(step >= 0, InvalidArgument, "[checkpoint] expected a step from 0, got {}", step);
  const fs::path unfinished = folder_ / kUnfinished;
  fs::remove_all(unfinished);
  try {
    fs::create_directory(unfinished);
    write(unfinished);
    const nlohmann::json list{{"step", step}, {"files", list_of(unfinished)}};
    write_file(unfinished / kList, list.dump(2) + "\n");
    put_in_place(unfinished, folder_ / name_of(step));
  } catch (const fs::filesystem_error& error) {
    fs::remove_all(unfinished);
    fail(ErrorKind::Backend, "[checkpoint] {}", error.what());
  } catch (...) {
    fs::remove_all(unfinished);
    throw;
  }
  sync_folder(folder_);
  fs::remove_all(unfinished);
  prune();
}

std::vector<RunCheckpoints::Entry> RunCheckpoints::entries() const {
  std::vector<Entry> result;
  for (const auto& entry : fs::directory_iterator(folder_)) {
    const auto step = step_of(entry.path().filename().string());
    if (step && entry.is_directory()) result.push_back({*step, entry.path()});
  }
  std::ranges::sort(result, {}, &Entry::step);
  return result;
}

std::optional<RunCheckpoints::Entry> RunCheckpoints::newest() const {
  auto all = entries();
  for (; !all.empty(); all.pop_back()) {
    try {
      verify_checkpoint(all.back().folder);
      return all.back();
    } catch (const Error& error) {
      log_warning("{}; looking for an older one", error.what());
    }
  }
  return std::nullopt;
}

void RunCheckpoints::prune() const {
  const auto all = entries();
  for (size_t i = 0; i + static_cast<size_t>(keep_) < all.size(); ++i) {
    if (keep_every_ == 0 || all[i].step % keep_every_ != 0) fs::remove_all(all[i].folder);
  }
}

void verify_checkpoint(const fs::path& folder) {
  const nlohmann::json list = read_json_file(folder / kList);
  SINOPIA_CHECK(list.is_object() && list.contains("files") && list["files"].is_object(), Corrupt,
                "[checkpoint] '{}' is no list of files", (folder / kList).string());
  for (const auto& [name, expected] : list["files"].items()) {
    const fs::path file = folder / name;
    const bool said = expected.is_object() && expected.contains("bytes") && expected.contains("crc32") &&
                      expected["bytes"].is_number_unsigned() && expected["crc32"].is_number_unsigned();
    SINOPIA_CHECK(said, Corrupt, "[checkpoint] '{}' says nothing about {}", (folder / kList).string(), name);
    std::error_code error;
    const auto bytes = fs::file_size(file, error);
    SINOPIA_CHECK(!error, Corrupt, "[checkpoint] '{}' is missing", file.string());
    SINOPIA_CHECK(bytes == expected["bytes"].get<uint64_t>(), Corrupt,
                  "[checkpoint] '{}' has {} bytes, expected {}", file.string(), bytes,
                  expected["bytes"].get<uint64_t>());
    SINOPIA_CHECK(crc_of(file) == expected["crc32"].get<uint32_t>(), Corrupt,
                  "[checkpoint] '{}' is not what was written: its check sum differs", file.string());
  }
}

}  // namespace sinopia
