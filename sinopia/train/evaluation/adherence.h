#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "sinopia/train/evaluation/scene_matcher.h"

namespace sinopia {

struct Interval {
  double low = 0, high = 1;
};

/// Wilson's score interval at 95% for a share of `right` among `total`; 0..1 without any. Throws
/// InvalidArgument unless 0 <= right <= total.
Interval wilson_interval(int right, int total);

/// How many pictures show what they ought to.
struct AdherenceScores {
  int total = 0;
  int objects = 0, counts = 0, colours = 0, positions = 0, background = 0, all = 0;
  void add(const Verdict& verdict);
};

/// {"total": n, "objects": {"right": n, "share": x, "low": x, "high": x}, ...}
nlohmann::json to_json(const AdherenceScores& scores);

/// One line a score: its name, share and interval in percent.
std::string to_table(const AdherenceScores& scores);

}  // namespace sinopia
