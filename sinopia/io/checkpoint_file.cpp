#include "sinopia/io/checkpoint_file.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "sinopia/base/error.h"
#include "sinopia/io/ckpt.h"
#include "sinopia/io/file.h"
#include "sinopia/io/gguf.h"
#include "sinopia/io/json_file.h"
#include "sinopia/io/safetensors.h"

namespace sinopia {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kIndexEnding = ".index.json";

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

// The names that one variant may have, in the order in which they count.
std::vector<std::string> candidates(std::string_view variant) {
  const std::string infix = variant.empty() ? "" : fmt::format(".{}", variant);
  std::vector<std::string> names;
  for (const char* ending : {"safetensors", "bin"}) {
    for (const char* base : {"diffusion_pytorch_model", "model", "pytorch_model"}) {
      names.push_back(fmt::format("{}.{}.index{}.json", base, ending, infix));
      if (!variant.empty()) names.push_back(fmt::format("{}{}.{}.index.json", base, infix, ending));
      names.push_back(fmt::format("{}{}.{}", base, infix, ending));
    }
  }
  return names;
}

std::string shard_name(std::string_view base_name, size_t index, size_t count) {
  return fmt::format("{}-{:05}-of-{:05}.safetensors", base_name, index + 1, count);
}

// Whether a name is one of base_name's shards, of any save.
bool is_shard_name(std::string_view name, std::string_view base_name) {
  constexpr std::string_view kPattern = "-#####-of-#####.safetensors";
  if (!name.starts_with(base_name) || name.size() != base_name.size() + kPattern.size()) return false;
  name.remove_prefix(base_name.size());
  return std::ranges::equal(name, kPattern,
                            [](char c, char p) { return p == '#' ? c >= '0' && c <= '9' : c == p; });
}

}  // namespace

TensorFile read_tensor_file(const fs::path& path) {
  const auto bytes = map_file(path);
  const std::string name = path.filename().string();
  const std::string_view data(static_cast<const char*>(bytes->data()), bytes->bytes());
  SINOPIA_CHECK(!data.empty(), Corrupt, "[checkpoint] '{}' is empty", path.string());
  SINOPIA_CHECK(!data.starts_with("version https://git-lfs"), Corrupt,
                "[checkpoint] '{}' is a Git LFS pointer; fetch the file itself (git lfs pull)",
                path.string());
  if (data.starts_with("GGUF")) return parse_gguf(bytes, name);
  constexpr size_t kTarMagicAt = 257;
  const bool tar = data.size() > kTarMagicAt + 5 && data.substr(kTarMagicAt, 5) == "ustar";
  const bool is_pickle =
      data.size() > 1 && data[0] == '\x80' && data[1] <= 5 && data.size() > 8 && data[7] != 0;
  if (data.starts_with("PK") || tar || is_pickle) return parse_ckpt(bytes, name);
  return parse_safetensors(bytes, name);
}

fs::path find_weights(const fs::path& folder, std::string_view variant) {
  SINOPIA_CHECK(fs::is_directory(folder), NotFound, "[checkpoint] no folder '{}'", folder.string());
  SINOPIA_CHECK(
      variant.find_first_of("/\\") == std::string_view::npos && variant.find('\0') == std::string_view::npos,
      InvalidArgument, "[checkpoint] '{}' is no variant", variant);
  std::vector<std::string_view> variants = {variant};
  if (variant.empty()) variants.insert(variants.end(), {"fp16", "bf16", "non_ema"});
  for (const std::string_view one : variants) {
    for (const std::string& name : candidates(one)) {
      if (is_file(folder / name)) return folder / name;
    }
  }
  fail(ErrorKind::NotFound, "[checkpoint] no weights in '{}': looked for {}", folder.string(),
       fmt::join(candidates(variant), ", "));
}

TensorFile read_sharded(const fs::path& index) {
  const nlohmann::json json = read_json_file(index);
  const std::string name = index.filename().string();
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  SINOPIA_CHECK(json.is_object() && map != json.end() && map->is_object(), Corrupt,
                "[checkpoint] {}: expected an object 'weight_map'", name);
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : map->items()) {
    SINOPIA_CHECK(shard.is_string(), Corrupt, "[checkpoint] {}: expected a file name for '{}'", name, tensor);
    const std::string& file = shard.get_ref<const std::string&>();
    const bool base_name = !file.empty() && file != "." && file != ".." &&
                           file.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
    SINOPIA_CHECK(base_name, Corrupt, "[checkpoint] {}: '{}' is not the name of a file in the same folder",
                  name, file.substr(0, 200));
    shards.insert(file);
  }
  TensorFile result;
  for (const std::string& shard : shards) {
    TensorFile part = read_tensor_file(index.parent_path() / shard);
    for (auto& [tensor, value] : part.tensors) {
      const auto place = map->find(tensor);
      SINOPIA_CHECK(place == map->end() || *place == shard, Corrupt, "[checkpoint] {}: '{}' is in '{}', too",
                    name, tensor, shard);
      SINOPIA_CHECK(result.tensors.emplace(tensor, std::move(value)).second, Corrupt,
                    "[checkpoint] {}: '{}' is in two shards", name, tensor);
    }
    result.metadata.merge(part.metadata);
  }
  for (const auto& [tensor, shard] : map->items()) {
    SINOPIA_CHECK(result.tensors.contains(tensor), Corrupt, "[checkpoint] {}: '{}' is not in '{}'", name,
                  tensor, shard.get_ref<const std::string&>());
  }
  return result;
}

TensorFile read_component(const fs::path& folder, std::string_view variant) {
  const fs::path path = find_weights(folder, variant);
  return path.extension() == ".json" ? read_sharded(path) : read_tensor_file(path);
}

void write_sharded(const fs::path& folder, std::string_view base_name, const TensorFile& file,
                   size_t max_shard_bytes) {
  SINOPIA_CHECK(!base_name.empty() && base_name.find_first_of("/\\") == std::string_view::npos,
                InvalidArgument, "[checkpoint] '{}' is no file name", base_name);
  SINOPIA_CHECK(max_shard_bytes > 0, InvalidArgument, "[checkpoint] expected a shard size above 0");
  std::vector<TensorFile> shards;
  size_t used = 0, total = 0;
  for (const auto& [name, tensor] : file.tensors) {
    const size_t bytes = tensor.bytes();
    if (shards.empty() || (!shards.back().tensors.empty() && used + bytes > max_shard_bytes)) {
      shards.push_back({{}, file.metadata});
      used = 0;
    }
    shards.back().tensors.emplace(name, tensor);
    used += bytes;
    total += bytes;
  }
  const fs::path single = folder / fmt::format("{}.safetensors", base_name);
  const fs::path index = folder / fmt::format("{}.safetensors{}", base_name, kIndexEnding);
  std::set<std::string> kept;
  if (shards.size() <= 1) {
    write_safetensors(single, file);
    kept.insert(single.filename().string());
    fs::remove(index);
  } else {
    nlohmann::json weight_map = nlohmann::json::object();
    for (size_t i = 0; i < shards.size(); ++i) {
      const std::string name = shard_name(base_name, i, shards.size());
      write_safetensors(folder / name, shards[i]);
      kept.insert(name);
      for (const auto& [tensor, value] : shards[i].tensors) weight_map[tensor] = name;
    }
    write_file(
        index,
        nlohmann::json{{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}}.dump(2) + "\n");
    fs::remove(single);
  }
  std::vector<fs::path> stale;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (is_shard_name(name, base_name) && !kept.contains(name)) stale.push_back(entry.path());
  }
  for (const fs::path& path : stale) fs::remove(path);
  sync_folder(folder);
}

}  // namespace sinopia
