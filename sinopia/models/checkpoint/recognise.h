#pragma once

#include <map>
#include <string>

#include "sinopia/models/checkpoint/parts.h"

namespace sinopia {

enum class ModelKind {
  Checkpoint,        ///< a UNet with other networks beside it
  UNet,              ///< a UNet alone
  Autoencoder,       ///< an autoencoder alone
  TextEncoder,       ///< a CLIP text encoder alone
  Lora,              ///< low-rank changes to a model
  TextualInversion,  ///< learned token embeddings
  ControlNet,
  Other,  ///< something else; the description says what, if it is known
};

struct Recognition {
  ModelKind kind = ModelKind::Other;
  Family family = Family::Unknown;
  std::string variant;      ///< row of the table of variants, or empty
  std::string description;  ///< for people
  bool supported = false;   ///< whether it can be loaded
};

/// What a file is, from names and shapes alone; never throws for what it does not know.
Recognition recognise(const TensorMap& tensors);

/// How many parameters, of which types.
struct ParameterCount {
  int64_t tensors = 0;
  int64_t parameters = 0;
  uint64_t bytes = 0;
  std::map<DType, int64_t> by_dtype;  ///< parameters
};
ParameterCount count_parameters(const TensorMap& tensors);

}  // namespace sinopia
