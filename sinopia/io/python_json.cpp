#include "sinopia/io/python_json.h"

#include <algorithm>

namespace sinopia {

std::string without_python_numbers(std::string_view text) {
  constexpr std::string_view kWords[] = {"-Infinity", "Infinity", "NaN"};
  std::string json;
  bool quoted = false;
  while (!text.empty()) {
    const auto word = std::ranges::find_if(kWords, [&](std::string_view w) { return text.starts_with(w); });
    if (!quoted && word != std::end(kWords)) {
      json += "null";
      text.remove_prefix(word->size());
      continue;
    }
    if (text[0] == '"') quoted = !quoted;
    const size_t count = quoted && text[0] == '\\' ? std::min<size_t>(2, text.size()) : 1;
    json += text.substr(0, count);
    text.remove_prefix(count);
  }
  return json;
}

}  // namespace sinopia
