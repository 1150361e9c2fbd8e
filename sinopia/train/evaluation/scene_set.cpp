#include "sinopia/train/evaluation/scene_set.h"

#include <fstream>

#include <nlohmann/json.hpp>

#include "sinopia/base/error.h"
#include "sinopia/io/json_file.h"

namespace sinopia {

std::vector<SceneFile> list_scenes(const std::filesystem::path& sets, const std::string& split) try {
  std::ifstream lines(sets / "metadata.jsonl");
  SINOPIA_CHECK(lines.good(), NotFound, "[list_scenes] no metadata.jsonl in {}", sets.string());
  std::vector<SceneFile> found;
  for (std::string line; std::getline(lines, line);) {
    const auto entry = parse_json(line, "metadata.jsonl");
    if (entry.at("scene").is_null() || entry.at("split") != split) continue;
    found.push_back({sets / entry.at("file").get<std::string>(), parse_scene(entry.at("scene"))});
  }
  return found;
} catch (const nlohmann::json::exception& error) {
  fail(ErrorKind::InvalidArgument, "[list_scenes] {}", error.what());
}

}  // namespace sinopia
