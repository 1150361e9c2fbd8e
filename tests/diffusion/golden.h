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

/// What the generator noted about each case.
inline nlohmann::json golden_cases(const TensorFile& file) {
  return nlohmann::json::parse(file.metadata.at("cases"));
}

}  // namespace sinopia
