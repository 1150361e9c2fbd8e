#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "sinopia/train/evaluation/scene.h"

namespace sinopia {

struct SceneFile {
  std::filesystem::path picture;
  Scene scene;
};

/// The composed scenes of a split in a built folder of tools/datasets, in the order of metadata.jsonl. Throws
/// NotFound without that file, Corrupt or InvalidArgument for a line that is not as its README says.
std::vector<SceneFile> list_scenes(const std::filesystem::path& sets, const std::string& split);

}  // namespace sinopia
