#pragma once

#include <filesystem>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace sinopia {

/// Parses JSON of at most `max_bytes` and 64 levels; a key that occurs twice is refused. Throws Corrupt for
/// text that is not JSON, and what read_text_file throws.
nlohmann::json read_json_file(const std::filesystem::path& path, size_t max_bytes = size_t{16} << 20);

/// The same for text in memory; `name` is for messages.
nlohmann::json parse_json(std::string_view text, std::string_view name = "JSON");

}  // namespace sinopia
