#pragma once

#include <filesystem>

#include <nlohmann/json.hpp>

namespace sinopia::bench {

/// Prints what became faster or slower since an older report of the same kind (--json), case by case, in
/// shares of the multiply-adds or of the copy that each run measured, so that a machine that was slower as a
/// whole does not count. Returns how many cases are slower by more than a tenth. Throws InvalidArgument if
/// the file is no report, or one with another number of threads.
int compare(const nlohmann::json& report, const std::filesystem::path& older);

}  // namespace sinopia::bench
