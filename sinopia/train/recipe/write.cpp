#include <cmath>
#include <string>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "sinopia/train/recipe/declare.h"

namespace sinopia {
namespace {

/// In double quotes, whose escapes YAML shares with JSON.
std::string in_quotes(const std::string& text) { return nlohmann::json(text).dump(); }

/// Writes the fields as YAML, with what they mean above them if wished.
class Writer final : public Fields {
 public:
  explicit Writer(bool documented) : documented_(documented) {}
  const std::string& text() const { return text_; }

  void field(const char* name, double& value, Range range, const char* doc) override {
    put(name, fmt::format("{}", value), doc, limits(range));  // the shortest that reads back as the same
  }
  void field(const char* name, std::optional<double>& value, Range range, const char* doc) override {
    put(name, value ? fmt::format("{}", *value) : "~", doc, limits(range));
  }
  void field(const char* name, int64_t& value, Range range, const char* doc) override {
    put(name, fmt::format("{}", value), doc, limits(range));
  }
  void field(const char* name, bool& value, const char* doc) override {
    put(name, value ? "true" : "false", doc);
  }
  void field(const char* name, std::string& value, const char* doc) override {
    put(name, in_quotes(value), doc);
  }
  void field(const char* name, std::vector<std::string>& values, const char* doc) override {
    std::vector<std::string> items;
    for (const std::string& value : values) items.push_back(in_quotes(value));
    put(name, fmt::format("[{}]", fmt::join(items, ", ")), doc);
  }

 private:
  void choose(const char* name, size_t& value, std::span<const std::string_view> names,
              const char* doc) override {
    put(name, std::string(names[value]), doc, fmt::format("One of {}.", fmt::join(names, ", ")));
  }
  void begin(const char* name, const char* doc) override {
    if (documented_) text_ += "\n";
    put(name, "", doc);
    ++depth_;
  }
  void end() override { --depth_; }

  void put(const char* name, const std::string& value, const char* doc, const std::string& more = "") {
    const std::string indent(depth_ * 2, ' ');
    if (documented_) comment(indent, more.empty() ? doc : fmt::format("{} {}", doc, more));
    text_ += fmt::format("{}{}:{}{}\n", indent, name, value.empty() ? "" : " ", value);
  }
  /// In lines of at most 100 columns.
  void comment(const std::string& indent, const std::string& doc) {
    constexpr size_t kColumns = 100;
    std::string line = indent + "#";
    for (size_t at = 0; at < doc.size();) {
      const size_t end = std::min(doc.find(' ', at), doc.size());
      if (line.size() + 1 + end - at > kColumns) {
        text_ += line + "\n";
        line = indent + "#";
      }
      line += fmt::format(" {}", doc.substr(at, end - at));
      at = end + 1;
    }
    text_ += line + "\n";
  }
  static std::string limits(Range range) {
    if (std::isinf(range.low) && std::isinf(range.high)) return "";
    if (std::isinf(range.high) || range.high >= 1e12) return fmt::format("At least {}.", range.low);
    return fmt::format("{} to {}.", range.low, range.high);
  }

  bool documented_;
  size_t depth_ = 0;
  std::string text_;
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
