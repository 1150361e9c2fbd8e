#include "bench/compare.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <string>

#include <fmt/format.h>

#include "sinopia/base/error.h"

namespace sinopia::bench {
namespace {

using Json = nlohmann::json;

constexpr double kNoise = 0.1;

bool is_row(const Json& row) {
  return row.is_object() && row.value("family", Json()).is_string() &&
         row.value("name", Json()).is_string() && row.value("flops", Json()).is_number() &&
         row.value("peak", Json()).is_number() &&
         row.value(Json::json_pointer("/seconds/ours"), Json()).is_number();
}

Json read_report(const std::filesystem::path& path) {
  std::ifstream file(path);
  SINOPIA_CHECK(file, NotFound, "[bench] cannot read {}", path.string());
  Json report = Json::parse(file, nullptr, false);
  const bool whole = report.is_object() && report.value("threads", Json()).is_number() &&
                     report.value("copy_bytes", Json()).is_number() &&
                     report.value("cases", Json()).is_array() && std::ranges::all_of(report["cases"], is_row);
  SINOPIA_CHECK(whole, InvalidArgument, "[bench] expected a report written with --json, got {}",
                path.string());
  return report;
}

std::string key(const Json& row) {
  return fmt::format("{:<12} {}", row["family"].get<std::string>(), row["name"].get<std::string>());
}

// Seconds in units of what the machine could do in that run.
double effort(const Json& report, const Json& row) {
  const double seconds = row["seconds"]["ours"], flops = row["flops"];
  return seconds * (flops > 0 ? row["peak"].get<double>() : report["copy_bytes"].get<double>());
}

}  // namespace

int compare(const Json& report, const std::filesystem::path& older) {
  const Json before = read_report(older);
  SINOPIA_CHECK(before["threads"] == report["threads"], InvalidArgument,
                "[bench] {} was measured with {} threads, this with {}", older.string(),
                before["threads"].dump(), report["threads"].dump());
  std::map<std::string, double> efforts;
  for (const Json& row : before["cases"]) efforts[key(row)] = effort(before, row);
  fmt::print("\nSince commit {}: time then / now, relative to what the machine could do then and now.\n",
             before.value("commit", "?"));
  int slower = 0;
  for (const Json& row : report["cases"]) {
    const auto found = efforts.find(key(row));
    if (found == efforts.end()) {
      fmt::print("{:<60}   new\n", key(row));
      continue;
    }
    const double gain = found->second / effort(report, row);
    const bool worse = gain < 1 / (1 + kNoise);
    slower += worse;
    fmt::print("{:<60} {:5.2f}x{}\n", key(row), gain,
               worse               ? "  SLOWER"
               : gain > 1 + kNoise ? "  faster"
                                   : "");
  }
  fmt::print("{} of {} slower by more than {:.0f} %\n", slower, report["cases"].size(), 100 * kNoise);
  return slower;
}

}  // namespace sinopia::bench
