#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sinopia {

/// What a number may be; both ends belong to it.
struct Range {
  double low = -std::numeric_limits<double>::infinity(), high = std::numeric_limits<double>::infinity();
  static Range from(double low) { return {.low = low}; }
};

/// Visits the fields of a recipe in the order in which they are to be shown. The recipe's types declare them
/// once, in a function visit_fields(Fields&, T&); reading, writing and documenting are visitors. `doc` is a
/// sentence or two for a person, units included.
class Fields {
 public:
  virtual ~Fields() = default;

  virtual void field(const char* name, double& value, Range range, const char* doc) = 0;
  /// Absent: a default that depends on something else; null in the file.
  virtual void field(const char* name, std::optional<double>& value, Range range, const char* doc) = 0;
  virtual void field(const char* name, int64_t& value, Range range, const char* doc) = 0;
  virtual void field(const char* name, bool& value, const char* doc) = 0;
  virtual void field(const char* name, std::string& value, const char* doc) = 0;
  virtual void field(const char* name, std::vector<std::string>& values, const char* doc) = 0;

  /// An enumeration whose values are the places of `names`.
  template <class Enum>
  void choice(const char* name, Enum& value, std::span<const std::string_view> names, const char* doc) {
    auto place = static_cast<size_t>(value);
    choose(name, place, names, doc);
    value = static_cast<Enum>(place);
  }

  /// A group of fields under a name of its own.
  template <class T>
  void section(const char* name, T& value, const char* doc) {
    begin(name, doc);
    visit_fields(*this, value);
    end();
  }

 private:
  virtual void choose(const char* name, size_t& value, std::span<const std::string_view> names,
                      const char* doc) = 0;
  virtual void begin(const char* name, const char* doc) = 0;
  virtual void end() = 0;
};

}  // namespace sinopia
