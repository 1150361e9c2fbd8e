#include "sinopia/io/json_file.h"

#include <string>
#include <unordered_set>
#include <vector>

#include <nlohmann/json.hpp>

#include "sinopia/base/error.h"
#include "sinopia/io/file.h"

namespace sinopia {

nlohmann::json parse_json(std::string_view text, std::string_view name) {
  constexpr int kMaxDepth = 64;
  std::vector<std::unordered_set<std::string>> keys;  // of the objects that are open
  const auto watch = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& value) {
    using Event = nlohmann::json::parse_event_t;
    if (event == Event::object_start || event == Event::array_start)
      SINOPIA_CHECK(depth < kMaxDepth, Corrupt, "[json] {}: nested more than {} levels", name, kMaxDepth + 0);
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end) keys.pop_back();
    if (event == Event::key) {
      const auto& key = value.get_ref<const std::string&>();
      SINOPIA_CHECK(keys.back().insert(key).second, Corrupt, "[json] {}: '{}' occurs twice", name,
                    key.substr(0, 100));
    }
    return true;
  };
  try {
    return nlohmann::json::parse(text.begin(), text.end(), watch);
  } catch (const nlohmann::json::parse_error& error) {
    fail(ErrorKind::Corrupt, "[json] {}: not valid near byte {}", name, error.byte);
  } catch (const nlohmann::json::exception&) {
    fail(ErrorKind::Corrupt, "[json] {}: a number out of range", name);
  }
}

nlohmann::json read_json_file(const std::filesystem::path& path, size_t max_bytes) {
  return parse_json(read_text_file(path, max_bytes), path.filename().string());
}

}  // namespace sinopia
