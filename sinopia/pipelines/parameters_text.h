#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sinopia {

/// The text that AUTOMATIC1111 writes into pictures under "parameters": prompt, negative prompt, then a line
/// of settings "Steps: 20, Sampler: Euler a, ..". Reference: modules/infotext_utils.py.
struct ParametersText {
  std::string prompt;
  std::string negative_prompt;
  std::vector<std::pair<std::string, std::string>> fields;  ///< in order; values unquoted

  /// The value of the last field of that name; none if there is no such field.
  std::optional<std::string> find(std::string_view name) const;
};

/// As AUTOMATIC1111 writes it: the negative prompt is left out when empty, values with `,` `:` or a newline
/// are quoted as JSON strings. Lines lose spaces at their ends when they are read, and some texts cannot be
/// told from the lines below them; such a prompt is kept in a field of its own, "Exact prompt" or "Exact
/// negative prompt", which parse_parameters puts back.
std::string format_parameters(const ParametersText& parameters);

/// Reads what format_parameters or AUTOMATIC1111 wrote; any text is accepted, in linear time. The last line
/// holds settings if at least three are found in it, else it belongs to the prompt.
ParametersText parse_parameters(std::string_view text);

}  // namespace sinopia
