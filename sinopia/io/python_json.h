#pragma once

#include <string>
#include <string_view>

namespace sinopia {

/// JSON from what Python's json.dump writes: NaN, Infinity and -Infinity outside of texts become null.
/// diffusers' configurations have such values ("lambda_min_clipped": -Infinity).
std::string without_python_numbers(std::string_view text);

}  // namespace sinopia
