#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "sinopia/io/safetensors.h"

namespace sinopia {

/// tests/golden/diffusion/<name>.safetensors.
inline const TensorFile& golden_file(const std::string& name) {
  static std::map<std::string, TensorFile> files;
  const auto found = files.find(name);
  if (found != files.end()) return found->second;
  return files[name] = read_safetensors(SINOPIA_TEST_DATA "/diffusion/" + name + ".safetensors");
}

inline nlohmann::json golden_json(const TensorFile& file, const std::string& key) {
  return nlohmann::json::parse(file.metadata.at(key));
}

}  // namespace sinopia
