#pragma once

#include <cstdint>
#include <string>

namespace sinopia::cli {

/// The file of picture `index` (0-based) of `count`: "%d" (or "%03d") stands for its number from 1 on,
/// "{seed}" for its seed; a batch without either gets "_2", "_3", .. before the ending. Throws UsageError for
/// another % directive.
std::string output_name(const std::string& pattern, int index, int count, uint64_t seed);

}  // namespace sinopia::cli
