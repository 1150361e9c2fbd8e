#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace sinopia {

/// Module names of an original layout and of diffusers, one to one. A key is translated by the longest
/// module name that it begins with; what follows the module name stays.
class NameMap {
 public:
  void add(std::string original, std::string ours) {
    to_original_.emplace(ours, original);
    to_ours_.emplace(std::move(original), std::move(ours));
  }
  /// The key in the other layout; nothing if no module has it.
  std::optional<std::string> to_ours(std::string_view key) const { return translate(to_ours_, key); }
  std::optional<std::string> to_original(std::string_view key) const { return translate(to_original_, key); }

 private:
  using Names = std::map<std::string, std::string, std::less<>>;
  static std::optional<std::string> translate(const Names& names, std::string_view key);

  Names to_ours_, to_original_;
};

}  // namespace sinopia
