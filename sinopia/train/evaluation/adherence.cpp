#include "sinopia/train/evaluation/adherence.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include <nlohmann/json.hpp>

#include "sinopia/base/error.h"

namespace sinopia {
namespace {

std::array<std::pair<const char*, int>, 6> named(const AdherenceScores& scores) {
  return {{{"objects", scores.objects},
           {"counts", scores.counts},
           {"colours", scores.colours},
           {"positions", scores.positions},
           {"background", scores.background},
           {"all", scores.all}}};
}

double share(int right, int total) { return total == 0 ? 0 : static_cast<double>(right) / total; }

}  // namespace

Interval wilson_interval(int right, int total) {
  SINOPIA_CHECK(right >= 0 && right <= total, InvalidArgument,
                "[wilson_interval] expected 0 to {} right, got {}", total, right);
  if (total == 0) return {};
  constexpr double z = 1.959963984540054;
  const double p = share(right, total), n = total;
  const double middle = p + z * z / (2 * n), spread = z * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n));
  const double scale = 1 + z * z / n;
  return {std::max(0.0, (middle - spread) / scale), std::min(1.0, (middle + spread) / scale)};
}

void AdherenceScores::add(const Verdict& verdict) {
  ++total;
  objects += verdict.objects ? 1 : 0;
  counts += verdict.counts ? 1 : 0;
  colours += verdict.colours ? 1 : 0;
  positions += verdict.positions ? 1 : 0;
  background += verdict.background ? 1 : 0;
  all += verdict.all() ? 1 : 0;
}

nlohmann::json to_json(const AdherenceScores& scores) {
  nlohmann::json result = {{"total", scores.total}};
  for (const auto& [name, right] : named(scores)) {
    const Interval interval = wilson_interval(right, scores.total);
    result[name] = {{"right", right},
                    {"share", share(right, scores.total)},
                    {"low", interval.low},
                    {"high", interval.high}};
  }
  return result;
}

std::string to_table(const AdherenceScores& scores) {
  std::string table = fmt::format("{:<12}{:>8}  95% interval, of {}\n", "", "right", scores.total);
  for (const auto& [name, right] : named(scores)) {
    const Interval interval = wilson_interval(right, scores.total);
    table += fmt::format("{:<12}{:>7.1f}%  {:.1f} to {:.1f}%\n", name, 100 * share(right, scores.total),
                         100 * interval.low, 100 * interval.high);
  }
  return table;
}

}  // namespace sinopia
