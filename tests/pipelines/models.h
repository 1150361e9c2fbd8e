#pragma once

#include <filesystem>
#include <string>

#include "sinopia/io/safetensors.h"
#include "sinopia/models/checkpoint/folder.h"
#include "sinopia/models/checkpoint/single_file.h"
#include "tests/temporary_folder.h"

namespace sinopia::testing {

inline std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(SINOPIA_TEST_DATA) / name;
}
inline std::filesystem::path model(const std::string& name) { return golden("models") / name; }

/// A folder of tests/golden/models as one file in the original layout.
inline std::filesystem::path single_file(const std::string& name, const TemporaryFolder& folder) {
  const std::filesystem::path path = folder / (name + ".safetensors");
  if (!std::filesystem::exists(path))
    write_safetensors(path, join_checkpoint(load_diffusers_folder(model(name))));
  return path;
}

}  // namespace sinopia::testing
