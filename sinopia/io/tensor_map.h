#pragma once

#include <functional>
#include <map>
#include <string>

#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// Tensors by the name they have in a checkpoint, in byte order of the names.
using TensorMap = std::map<std::string, Tensor, std::less<>>;

/// What a checkpoint file holds. Tensors are in the file's own layout (PyTorch's, channels first, unless we
/// wrote it).
struct TensorFile {
  TensorMap tensors;
  std::map<std::string, std::string> metadata;
};

}  // namespace sinopia
