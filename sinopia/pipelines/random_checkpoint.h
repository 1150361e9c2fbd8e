#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "sinopia/models/checkpoint/parts.h"

namespace sinopia {

/// "tiny-sd1" (narrow networks in the real layout, with the whole vocabulary), "sd1", "sd2".
std::span<const std::string_view> random_checkpoint_presets();

/// A checkpoint with random weights, for tests, benchmarks and first steps: what it paints is noise. The same
/// seed gives the same weights. Throws NotFound naming the presets, InvalidArgument for a dtype other than
/// f32, f16, bf16.
CheckpointParts random_checkpoint(std::string_view preset, uint64_t seed, DType dtype);

}  // namespace sinopia
