#include "sinopia/models/checkpoint/name_map.h"

namespace sinopia {

std::optional<std::string> NameMap::translate(const Names& names, std::string_view key) {
  for (size_t end = key.size(); end != std::string_view::npos && end > 0;) {
    if (const auto found = names.find(key.substr(0, end)); found != names.end()) {
      return found->second + std::string(key.substr(end));
    }
    end = key.rfind('.', end - 1);
  }
  return std::nullopt;
}

}  // namespace sinopia
