#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "sinopia/base/error.h"

namespace sinopia {

/// Reads the fields of a config.json, strictly: a value that the model does not have is Unsupported and
/// named. Included by .cpp files only.
class ConfigReader {
 public:
  /// `what` names the file in errors ("unet config"). Throws Corrupt unless the text is a JSON object.
  ConfigReader(std::string_view text, std::string what);

  bool has(const char* name) const { return json_.contains(name) && !json_.at(name).is_null(); }
  bool is_null(const char* name) const { return json_.contains(name) && json_.at(name).is_null(); }
  /// The value, or `fallback` if it is absent or null. Throws Corrupt for another type.
  int64_t integer(const char* name, int64_t fallback);
  double number(const char* name, double fallback);
  bool boolean(const char* name, bool fallback);
  std::string text(const char* name, const std::string& fallback);
  std::vector<std::string> texts(const char* name, const std::vector<std::string>& fallback);
  /// A list of `count` values, or one value for all of them.
  std::vector<int64_t> integers(const char* name, size_t count, int64_t fallback);
  /// A list of any length.
  std::vector<int64_t> integers(const char* name, const std::vector<int64_t>& fallback);
  std::vector<bool> booleans(const char* name, size_t count, bool fallback);
  /// Throws Unsupported unless the field is absent, null or one of `allowed`.
  void expect(const char* name, const std::vector<nlohmann::json>& allowed = {});
  /// A field that changes nothing here.
  void ignore(std::initializer_list<const char*> names) { known_.insert(names.begin(), names.end()); }
  /// Throws Unsupported naming a field that no one asked for and that is not null, false or private ("_..").
  void finish() const;

  [[noreturn]] void unsupported(const char* name) const;

 private:
  const nlohmann::json* find(const char* name);
  template <class T>
  T as(const nlohmann::json& value, const char* name) const;

  nlohmann::json json_;
  std::string what_;
  std::set<std::string, std::less<>> known_;
};

/// The shortest decimal that reads back as this float, so that 1e-5f is written as 1e-05.
double shortest(float value);

}  // namespace sinopia
