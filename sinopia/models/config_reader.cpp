#include "sinopia/models/config_reader.h"

#include <cmath>

#include <fmt/format.h>

#include "sinopia/io/python_json.h"

namespace sinopia {

ConfigReader::ConfigReader(std::string_view text, std::string what) : what_(std::move(what)) {
  json_ = nlohmann::json::parse(without_python_numbers(text), nullptr, /*allow_exceptions=*/false);
  SINOPIA_CHECK(json_.is_object(), Corrupt, "[{}] expected a JSON object", what_);
}

void ConfigReader::unsupported(const char* name) const {
  fail(ErrorKind::Unsupported, "[{}] {} = {} is not supported", what_, name,
       json_.contains(name) ? json_.at(name).dump() : "absent");
}

const nlohmann::json* ConfigReader::find(const char* name) {
  known_.insert(name);
  return has(name) ? &json_.at(name) : nullptr;
}

template <class T>
T ConfigReader::as(const nlohmann::json& value, const char* name) const {
  bool fits = false;
  if constexpr (std::is_same_v<T, bool>) {
    fits = value.is_boolean();
  } else if constexpr (std::is_same_v<T, int64_t>) {
    fits = value.is_number_integer() || (value.is_number() && std::abs(value.get<double>()) < 1e15 &&
                                         value.get<double>() == std::floor(value.get<double>()));
  } else if constexpr (std::is_same_v<T, double>) {
    fits = value.is_number();
  } else {
    fits = value.is_string();
  }
  SINOPIA_CHECK(fits, Corrupt, "[{}] {} has the wrong type: {}", what_, name, value.dump());
  if constexpr (std::is_same_v<T, int64_t>) {
    if (!value.is_number_integer()) return static_cast<int64_t>(value.get<double>());
  }
  return value.get<T>();
}

int64_t ConfigReader::integer(const char* name, int64_t fallback) {
  const nlohmann::json* value = find(name);
  return value ? as<int64_t>(*value, name) : fallback;
}

double ConfigReader::number(const char* name, double fallback) {
  const nlohmann::json* value = find(name);
  return value ? as<double>(*value, name) : fallback;
}

bool ConfigReader::boolean(const char* name, bool fallback) {
  const nlohmann::json* value = find(name);
  return value ? as<bool>(*value, name) : fallback;
}

std::string ConfigReader::text(const char* name, const std::string& fallback) {
  const nlohmann::json* value = find(name);
  return value ? as<std::string>(*value, name) : fallback;
}

std::vector<std::string> ConfigReader::texts(const char* name, const std::vector<std::string>& fallback) {
  const nlohmann::json* value = find(name);
  if (!value) return fallback;
  SINOPIA_CHECK(value->is_array(), Corrupt, "[{}] {} has the wrong type: {}", what_, name, value->dump());
  std::vector<std::string> result;
  for (const nlohmann::json& item : *value) result.push_back(as<std::string>(item, name));
  return result;
}

std::vector<int64_t> ConfigReader::integers(const char* name, size_t count, int64_t fallback) {
  const nlohmann::json* value = find(name);
  if (!value || !value->is_array()) {
    return std::vector<int64_t>(count, value ? as<int64_t>(*value, name) : fallback);
  }
  if (value->size() != count) unsupported(name);
  std::vector<int64_t> result;
  for (const nlohmann::json& item : *value) {
    if (!item.is_number()) unsupported(name);
    result.push_back(as<int64_t>(item, name));
  }
  return result;
}

std::vector<int64_t> ConfigReader::integers(const char* name, const std::vector<int64_t>& fallback) {
  const nlohmann::json* value = find(name);
  if (!value) return fallback;
  if (!value->is_array()) unsupported(name);
  return integers(name, value->size(), 0);
}

std::vector<bool> ConfigReader::booleans(const char* name, size_t count, bool fallback) {
  const nlohmann::json* value = find(name);
  if (!value || !value->is_array()) {
    return std::vector<bool>(count, value ? as<bool>(*value, name) : fallback);
  }
  if (value->size() != count) unsupported(name);
  std::vector<bool> result;
  for (const nlohmann::json& item : *value) result.push_back(as<bool>(item, name));
  return result;
}

void ConfigReader::expect(const char* name, const std::vector<nlohmann::json>& allowed) {
  const nlohmann::json* value = find(name);
  if (!value) return;
  for (const nlohmann::json& a : allowed) {
    if (*value == a) return;
  }
  unsupported(name);
}

void ConfigReader::finish() const {
  for (const auto& [name, value] : json_.items()) {
    if (name.starts_with("_") || known_.contains(name) || value.is_null() || value == false) continue;
    unsupported(name.c_str());
  }
}

double shortest(float value) { return std::stod(fmt::format("{}", value)); }

}  // namespace sinopia
