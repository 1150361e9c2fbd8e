#pragma once

#include <filesystem>
#include <string>

#include "sinopia/models/checkpoint/parts.h"
#include "sinopia/tensor/dtype.h"

namespace sinopia::cli {

/// A diffusers folder or a single file.
CheckpointParts read_checkpoint(const std::filesystem::path& path);

/// "f32", "f16", "bf16". Throws UsageError.
DType parse_type(const std::string& name);

}  // namespace sinopia::cli
