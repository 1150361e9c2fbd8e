#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "sinopia/train/evaluation/adherence.h"
#include "sinopia/train/evaluation/scene_set.h"

namespace sinopia {

/// How far the matcher itself can be trusted.
struct MatcherReport {
  AdherenceScores plain, blurred, noisy, tinted;     ///< rightly described pictures
  int single_objects = 0, single_objects_first = 0;  ///< scenes of one object: all, and its noun ranked first
  std::map<std::string, AdherenceScores> wrong;      ///< wrongly described: `all` counts those accepted
  std::map<std::pair<std::string, std::string>, int>
      confusions;  ///< (shown, ranked first) in scenes of one object
};

/// Judges each scene's picture as it is, blurred (Gaussian, sigma 1 pixel), noisy (sigma 10 of 255) and
/// tinted (channels times 1.06, 1, 0.92), then as it is against descriptions of "another scene", "swapped
/// sides", "count", "colour" and "object" made wrong. `scenes` should not be in the library. The same scenes
/// give the same report.
MatcherReport check_matcher(const std::vector<SceneFile>& scenes, const ObjectLibrary& library);

/// A table for a person.
std::string to_table(const MatcherReport& report);

}  // namespace sinopia
