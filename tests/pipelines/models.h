#pragma once

#include <filesystem>
#include <string>

#include <stdlib.h>

#include "sinopia/io/safetensors.h"
#include "sinopia/models/checkpoint/folder.h"
#include "sinopia/models/checkpoint/single_file.h"

namespace sinopia::testing {

inline std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(SINOPIA_TEST_DATA) / name;
}
inline std::filesystem::path model(const std::string& name) { return golden("models") / name; }

/// A new folder, removed in the end.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "sinopia-test-XXXXXX").string();
    if (mkdtemp(name.data()) != nullptr) path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

/// A folder of tests/golden/models as one file in the original layout.
inline std::filesystem::path single_file(const std::string& name, const TemporaryFolder& folder) {
  const std::filesystem::path path = folder / (name + ".safetensors");
  if (!std::filesystem::exists(path))
    write_safetensors(path, join_checkpoint(load_diffusers_folder(model(name))));
  return path;
}

}  // namespace sinopia::testing
