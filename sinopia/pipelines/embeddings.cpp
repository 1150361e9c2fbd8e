#include <algorithm>

#include "sinopia/base/error.h"
#include "sinopia/base/log.h"
#include "sinopia/io/checkpoint_file.h"
#include "sinopia/pipelines/text_encoding.h"

namespace sinopia {
namespace {

Tensor read_vectors(const std::filesystem::path& path) {
  const TensorFile file = read_tensor_file(path);
  for (const char* name : {"string_to_param.*", "emb_params"})
    if (const auto found = file.tensors.find(name); found != file.tensors.end()) return found->second;
  SINOPIA_CHECK(file.tensors.size() == 1, Unsupported, "[embedding] expected one tensor, got {}",
                file.tensors.size());
  return file.tensors.begin()->second;
}

}  // namespace

std::vector<std::string> add_embeddings(TextEncoding& encoding, const std::filesystem::path& folder) {
  SINOPIA_CHECK(std::filesystem::is_directory(folder), NotFound, "[embedding] {} is not a folder",
                folder.string());
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string ending = entry.path().extension().string();
    if (ending == ".safetensors" || ending == ".pt" || ending == ".bin") files.push_back(entry.path());
  }
  std::ranges::sort(files);
  std::vector<std::string> names;
  for (const auto& file : files) {
    try {
      encoding.add_embedding(file.stem().string(), read_vectors(file));
      names.push_back(file.stem().string());
    } catch (const Error& error) {
      log_warning("{} is left out: {}", file.string(), error.what());
    }
  }
  return names;
}

}  // namespace sinopia
