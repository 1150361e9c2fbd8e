#pragma once

#include <string_view>

namespace sinopia {

/// Whether a name stays within its archive or folder when it is taken for a path: not empty, not absolute, no
/// "..", no backslash, no zero byte.
bool is_safe_archive_name(std::string_view name);

}  // namespace sinopia
