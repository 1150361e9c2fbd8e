#include "sinopia/train/evaluation/scene_matcher.h"

#include <algorithm>
#include <cmath>

namespace sinopia {
namespace {

// Parts further apart than this share of the picture's side belong to different objects.
constexpr double kWidestGap = 0.1;
// Above this, a thing is like none of the known.
constexpr float kUnknown = 0.5F;
// How much worse than the best noun the expected one may fit: blurred look-alikes change places within it.
constexpr float kTieRatio = 1.1F, kTieSlack = 0.004F;

struct Part {
  Segment segment;
  FoundObject found;
  float distance() const { return found.nouns.empty() ? 1.0F : found.nouns.front().distance; }
};

Part make_part(const Segmentation& seen, Segment segment, const ObjectLibrary& library) {
  const ObjectLook look = look_at(seen, segment);
  FoundObject found{library.rank(look), look.shares, segment.x, segment.y, segment.box};
  return {std::move(segment), std::move(found)};
}

// A fragment is no object by itself whatever it resembles, so it costs as much as an unknown thing.
float cost(const Part& part, int largest) {
  return part.segment.area * 8 < largest ? std::max(part.distance(), kUnknown) : part.distance();
}

bool join_best(std::vector<Part>& parts, const Segmentation& seen, const ObjectLibrary& library) {
  const int largest = std::max_element(parts.begin(), parts.end(), [](const Part& a, const Part& b) {
                        return a.segment.area < b.segment.area;
                      })->segment.area;
  const double widest = kWidestGap * std::max(seen.width, seen.height);
  float best_gain = 0;
  size_t first = 0, second = 0;
  Part best;
  for (size_t i = 0; i < parts.size(); ++i) {
    for (size_t j = i + 1; j < parts.size(); ++j) {
      if (gap(parts[i].segment.box, parts[j].segment.box) > widest) continue;
      const float apart = std::max(cost(parts[i], largest), cost(parts[j], largest));
      if (apart < 0.03F) continue;
      Part both = make_part(seen, joined(parts[i].segment, parts[j].segment), library);
      const float gain = apart - both.distance();
      if (gain <= best_gain) continue;
      best_gain = gain;
      first = i;
      second = j;
      best = std::move(both);
    }
  }
  if (best_gain <= 0) return false;
  parts[first] = std::move(best);
  parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(second));
  return true;
}

bool may_be(const FoundObject& found, const std::string& noun) {
  if (found.nouns.empty() || found.nouns.front().distance > kUnknown) return false;
  const float limit = found.nouns.front().distance * kTieRatio + kTieSlack;
  return std::any_of(found.nouns.begin(), found.nouns.end(), [&](const RankedNoun& ranked) {
    return ranked.noun == noun && ranked.distance <= limit;
  });
}

bool holds(const SceneRelation& relation, const std::vector<std::vector<const FoundObject*>>& groups) {
  for (const FoundObject* a : groups[static_cast<size_t>(relation.subject)]) {
    for (const FoundObject* b : groups[static_cast<size_t>(relation.object)]) {
      const double right = a->x - b->x, down = a->y - b->y;
      const bool sideways = relation.relation == Relation::LeftOf || relation.relation == Relation::RightOf;
      const double along = sideways ? right : down, across = sideways ? down : right;
      const bool before = relation.relation == Relation::LeftOf || relation.relation == Relation::Above;
      if ((before ? -along : along) <= std::max(0.0, 0.5 * std::abs(across))) return false;
    }
  }
  return true;
}

}  // namespace

FoundScene find_objects(const Image& picture, const ObjectLibrary& library) {
  Segmentation seen = segment_picture(picture);
  // A scene has four objects at most; what is beyond a dozen pieces is noise.
  if (seen.segments.size() > 12) seen.segments.resize(12);
  FoundScene result{std::string(colour_words()[nearest_colour_word(seen.background)]), {}};
  std::vector<Part> parts;
  for (Segment& segment : seen.segments) parts.push_back(make_part(seen, std::move(segment), library));
  while (parts.size() > 1 && join_best(parts, seen, library)) {
  }
  const double speck = 0.004 * seen.width * seen.height;
  for (Part& part : parts) {
    if (part.segment.area >= speck) result.objects.push_back(std::move(part.found));
  }
  return result;
}

Verdict judge(const FoundScene& found, const Scene& expected, const ObjectLibrary& library) {
  Verdict verdict;
  verdict.background = found.background == expected.background;
  std::vector<std::vector<const FoundObject*>> groups(expected.objects.size());
  bool strangers = false;
  for (const FoundObject& object : found.objects) {
    size_t best = groups.size();
    float distance = 0;
    for (size_t i = 0; i < groups.size(); ++i) {
      if (!may_be(object, expected.objects[i].name)) continue;
      for (const RankedNoun& ranked : object.nouns) {
        if (ranked.noun != expected.objects[i].name || (best < groups.size() && ranked.distance >= distance))
          continue;
        best = i;
        distance = ranked.distance;
      }
    }
    if (best == groups.size()) {
      strangers = true;
    } else {
      groups[best].push_back(&object);
    }
  }
  verdict.objects =
      !strangers && std::none_of(groups.begin(), groups.end(), [](const auto& g) { return g.empty(); });
  verdict.counts = verdict.objects;
  verdict.colours = verdict.objects;
  const auto words = colour_words();
  for (size_t i = 0; i < groups.size(); ++i) {
    const SceneObject& object = expected.objects[i];
    verdict.counts = verdict.counts && groups[i].size() == static_cast<size_t>(object.count);
    if (object.colour.empty()) continue;
    const auto word =
        static_cast<size_t>(std::find(words.begin(), words.end(), object.colour) - words.begin());
    for (const FoundObject* one : groups[i]) {
      verdict.colours =
          verdict.colours && one->shares[word] >= library.least_colour_share(object.name, object.colour);
    }
  }
  verdict.positions =
      verdict.objects && std::all_of(expected.relations.begin(), expected.relations.end(),
                                     [&](const SceneRelation& r) { return holds(r, groups); });
  return verdict;
}

}  // namespace sinopia
