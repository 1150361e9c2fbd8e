#include <cmath>

#include <fmt/ranges.h>
#include <yaml-cpp/yaml.h>

#include "sinopia/train/recipe/declare.h"

namespace sinopia {
namespace {

/// Writes the fields as YAML, with what they mean above them if wished.
class Writer final : public Fields {
 public:
  explicit Writer(bool documented) : documented_(documented) {
    out_ << YAML::BeginMap;
    out_.SetDoublePrecision(17);
  }
  std::string text() {
    out_ << YAML::EndMap;
    return std::string(out_.c_str()) + "\n";
  }

  void field(const char* name, double& value, Range range, const char* doc) override {
    put(name, fmt::format("{} {}", doc, limits(range)));
    out_ << fmt::format("{}", value);  // the shortest that reads back as the same
  }
  void field(const char* name, std::optional<double>& value, Range range, const char* doc) override {
    put(name, fmt::format("{} {}", doc, limits(range)));
    if (value)
      out_ << fmt::format("{}", *value);
    else
      out_ << YAML::Null;
  }
  void field(const char* name, int64_t& value, Range range, const char* doc) override {
    put(name, fmt::format("{} {}", doc, limits(range)));
    out_ << value;
  }
  void field(const char* name, bool& value, const char* doc) override {
    put(name, doc);
    out_ << value;
  }
  void field(const char* name, std::string& value, const char* doc) override {
    put(name, doc);
    out_ << YAML::DoubleQuoted << value;
  }
  void field(const char* name, std::vector<std::string>& values, const char* doc) override {
    put(name, doc);
    out_ << YAML::BeginSeq;
    for (const std::string& value : values) out_ << YAML::DoubleQuoted << value;
    out_ << YAML::EndSeq;
  }
  void field(const char* name, std::vector<int64_t>& values, Range range, const char* doc) override {
    put(name, fmt::format("{} {}", doc, limits(range)));
    out_ << YAML::Flow << values;
  }

 private:
  void choose(const char* name, size_t& value, std::span<const std::string_view> names,
              const char* doc) override {
    put(name, fmt::format("{} One of {}.", doc, fmt::join(names, ", ")));
    out_ << std::string(names[value]);
  }
  void begin(const char* name, const char* doc) override {
    put(name, doc);
    out_ << YAML::BeginMap;
  }
  void end() override { out_ << YAML::EndMap; }

  void put(const char* name, const std::string& doc) {
    if (documented_) out_ << YAML::Newline << YAML::Comment(doc);
    out_ << YAML::Key << name << YAML::Value;
  }
  static std::string limits(Range range) {
    if (std::isinf(range.low) && std::isinf(range.high)) return "";
    if (std::isinf(range.high) || range.high >= 1e12) return fmt::format("At least {}.", range.low);
    return fmt::format("{} to {}.", range.low, range.high);
  }

  bool documented_;
  YAML::Emitter out_;
};

std::string written(Recipe recipe, bool documented) {
  Writer writer(documented);
  visit_fields(writer, recipe);
  return writer.text();
}

}  // namespace

std::string recipe_to_yaml(const Recipe& recipe) { return written(recipe, false); }

std::string documented_recipe() { return written({}, true); }

}  // namespace sinopia
