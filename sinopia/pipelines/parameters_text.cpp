#include "sinopia/pipelines/parameters_text.h"

#include <algorithm>

#include <nlohmann/json.hpp>

namespace sinopia {
namespace {

using Fields = std::vector<std::pair<std::string, std::string>>;

constexpr std::string_view kNegative = "Negative prompt:";
constexpr std::string_view kExactPrompt = "Exact prompt";
constexpr std::string_view kExactNegative = "Exact negative prompt";

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1c && c <= 0x1f); }

// Beyond ASCII every letter of a name is taken for a word's.
bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}

bool is_name(char c) { return is_word(c) || c == ' ' || c == '-' || c == '/'; }

std::string_view strip(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

std::string quote(const std::string& text) {
  if (text.find_first_of(",:\n") == std::string::npos) return text;
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string unquote(std::string_view text) {
  if (text.size() < 2 || text.front() != '"' || text.back() != '"') return std::string(text);
  const auto value = nlohmann::json::parse(text, nullptr, false);
  return value.is_string() ? value.get<std::string>() : std::string(text);
}

// The end of a quoted value that starts at `begin` and is followed by a comma or the end; npos if there is
// none.
size_t quoted_end(std::string_view line, size_t begin) {
  size_t i = begin + 1;
  while (i < line.size() && line[i] != '"') i += line[i] == '\\' ? 2 : 1;
  if (i >= line.size() || i == begin + 1) return std::string_view::npos;
  ++i;
  return i == line.size() || line[i] == ',' ? i : std::string_view::npos;
}

// Every match of \s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$) from left to right. A run of name
// characters ends at the same place wherever it starts, and a quote ends at the next value's at the latest,
// so that nothing is scanned more than twice.
Fields find_fields(std::string_view line) {
  Fields fields;
  for (size_t i = 0; i < line.size();) {
    if (!is_word(line[i])) {
      ++i;
      continue;
    }
    size_t colon = i;
    while (colon < line.size() && is_name(line[colon])) ++colon;
    if (colon == line.size() || line[colon] != ':' || colon - i < 2) {
      i = colon;
      continue;
    }
    size_t value = colon + 1;
    while (value < line.size() && is_space(line[value])) ++value;
    size_t end = std::string_view::npos;
    if (value < line.size() && line[value] == '"') end = quoted_end(line, value);
    if (end == std::string_view::npos) end = std::min(line.find(',', value), line.size());
    fields.emplace_back(std::string(line.substr(i, colon - i)), unquote(line.substr(value, end - value)));
    i = end == line.size() ? end : end + 1;
  }
  return fields;
}

std::string format(const ParametersText& parameters) {
  std::string text = parameters.prompt;
  if (!parameters.negative_prompt.empty()) {
    text += '\n';
    text += kNegative;
    text += ' ';
    text += parameters.negative_prompt;
  }
  std::string line;
  for (const auto& [name, value] : parameters.fields) {
    if (!line.empty()) line += ", ";
    line += name + ": " + quote(value);
  }
  return text + '\n' + line;
}

}  // namespace

std::optional<std::string> ParametersText::find(std::string_view name) const {
  for (auto field = fields.rbegin(); field != fields.rend(); ++field)
    if (field->first == name) return field->second;
  return std::nullopt;
}

std::string format_parameters(const ParametersText& parameters) {
  std::string text = format(parameters);
  const ParametersText read = parse_parameters(text);
  if (read.prompt == parameters.prompt && read.negative_prompt == parameters.negative_prompt) return text;
  // The comma makes sure that the value is quoted, which keeps spaces at its ends.
  ParametersText exact = parameters;
  exact.fields.emplace_back(kExactPrompt, parameters.prompt + ",");
  exact.fields.emplace_back(kExactNegative, parameters.negative_prompt + ",");
  return format(exact);
}

ParametersText parse_parameters(std::string_view text) {
  text = strip(text);
  ParametersText result;
  const size_t last = text.rfind('\n');
  const std::string_view last_line = last == std::string_view::npos ? text : text.substr(last + 1);
  Fields fields = find_fields(last_line);
  if (fields.size() >= 3) {
    result.fields = std::move(fields);
    text = last == std::string_view::npos ? std::string_view() : text.substr(0, last);
  }
  bool negative = false;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = strip(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.starts_with(kNegative)) {
      negative = true;
      line = strip(line.substr(kNegative.size()));
    }
    std::string& target = negative ? result.negative_prompt : result.prompt;
    if (!target.empty()) target += '\n';
    target += line;
  }
  const auto put_back = [&](std::string_view name, std::string& target) {
    if (auto exact = result.find(name); exact && exact->ends_with(',')) {
      target = exact->substr(0, exact->size() - 1);
      std::erase_if(result.fields, [&](const auto& field) { return field.first == name; });
    }
  };
  put_back(kExactPrompt, result.prompt);
  put_back(kExactNegative, result.negative_prompt);
  return result;
}

}  // namespace sinopia
