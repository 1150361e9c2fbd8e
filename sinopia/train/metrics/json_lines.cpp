#include <cmath>
#include <limits>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "sinopia/base/error.h"
#include "sinopia/io/file.h"
#include "sinopia/train/metrics/metrics.h"

namespace sinopia {
namespace {

constexpr size_t kMaxBytes = size_t{1} << 30;

std::string read_if_there(const std::filesystem::path& file) {
  return std::filesystem::exists(file) ? read_text_file(file, kMaxBytes) : std::string();
}

/// Calls body(line, parsed) for every whole line.
template <class Body>
void for_each_line(std::string_view text, const std::filesystem::path& file, const Body& body) {
  int64_t number = 0;
  for (size_t begin = 0, end; (end = text.find('\n', begin)) != std::string_view::npos; begin = end + 1) {
    const std::string_view line = text.substr(begin, end - begin);
    ++number;
    const auto name = fmt::format("{}, line {}", file.string(), number);
    const nlohmann::ordered_json parsed = nlohmann::ordered_json::parse(line, nullptr, false);
    SINOPIA_CHECK(parsed.is_object() && parsed.contains("step") && parsed["step"].is_number_integer(),
                  Corrupt, "[metrics] {}: expected an object with a step", name);
    body(line, parsed);
  }
}

class JsonLines final : public MetricsWriter {
 public:
  JsonLines(const std::filesystem::path& file, int64_t first_step) : file_((trim(file, first_step), file)) {}

  void scalars(int64_t step, const Scalars& values) override {
    nlohmann::ordered_json line{{"step", step}};
    for (const auto& [name, value] : values) line[name] = value;  // what is not finite is written as null
    file_.append(line.dump() + "\n");
  }
  void image(int64_t, const std::string&, const Image&) override {}

 private:
  static void trim(const std::filesystem::path& file, int64_t first_step) {
    const std::string text = read_if_there(file);
    std::string kept;
    for_each_line(text, file, [&](std::string_view line, const nlohmann::ordered_json& parsed) {
      if (parsed["step"].get<int64_t>() < first_step) kept.append(line).push_back('\n');
    });
    if (kept != text) write_file(file, kept);
  }

  AppendedFile file_;
};

}  // namespace

std::unique_ptr<MetricsWriter> json_lines_metrics(const std::filesystem::path& file, int64_t first_step) {
  return std::make_unique<JsonLines>(file, first_step);
}

std::vector<StepScalars> read_json_lines_metrics(const std::filesystem::path& file) {
  std::vector<StepScalars> result;
  for_each_line(read_if_there(file), file, [&](std::string_view, const nlohmann::ordered_json& parsed) {
    StepScalars entry;
    for (const auto& [name, value] : parsed.items()) {
      if (name == "step") {
        entry.step = value.get<int64_t>();
      } else if (value.is_number() || value.is_null()) {
        entry.values.emplace_back(
            name, value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>());
      }
    }
    result.push_back(std::move(entry));
  });
  return result;
}

}  // namespace sinopia
