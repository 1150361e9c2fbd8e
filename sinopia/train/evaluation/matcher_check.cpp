#include "sinopia/train/evaluation/matcher_check.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

#include "sinopia/base/error.h"

namespace sinopia {
namespace {

uint8_t to_byte(double value) { return static_cast<uint8_t>(std::lround(std::clamp(value, 0.0, 255.0))); }

Image blurred(const Image& picture) {
  constexpr int kReach = 3;
  Image result = picture;
  for (const bool down : {false, true}) {
    const Image source = result;
    for (int y = 0; y < picture.height; ++y) {
      for (int x = 0; x < picture.width; ++x) {
        for (int c = 0; c < 3; ++c) {
          double sum = 0, weights = 0;
          for (int i = -kReach; i <= kReach; ++i) {
            const int u = std::clamp(x + (down ? 0 : i), 0, picture.width - 1);
            const int v = std::clamp(y + (down ? i : 0), 0, picture.height - 1);
            const double weight = std::exp(-0.5 * i * i);
            sum += weight * source.pixel(v, u)[c];
            weights += weight;
          }
          result.pixel(y, x)[c] = to_byte(sum / weights);
        }
      }
    }
  }
  return result;
}

Image noisy(Image picture, size_t seed) {
  std::mt19937 random(static_cast<uint32_t>(seed));
  std::normal_distribution<double> noise(0, 10);
  for (uint8_t& value : picture.pixels) value = to_byte(value + noise(random));
  return picture;
}

Image tinted(Image picture) {
  constexpr double kFactors[] = {1.06, 1, 0.92};
  for (size_t i = 0; i < picture.pixels.size(); ++i)
    picture.pixels[i] = to_byte(picture.pixels[i] * kFactors[i % 3]);
  return picture;
}

std::set<std::string> names_of(const Scene& scene) {
  std::set<std::string> names;
  for (const SceneObject& object : scene.objects) names.insert(object.name);
  return names;
}

// Descriptions that are wrong in one respect, by what that is.
std::map<std::string, Scene> wrong_scenes(const Scene& scene, const Scene& other) {
  std::map<std::string, Scene> wrong;
  if (names_of(scene) != names_of(other)) wrong["another scene"] = other;
  if (!scene.relations.empty()) {
    Scene swapped = scene;
    for (SceneRelation& relation : swapped.relations) std::swap(relation.subject, relation.object);
    wrong["swapped sides"] = swapped;
  }
  Scene more = scene;
  ++more.objects.front().count;
  wrong["count, one more"] = more;
  if (scene.objects.front().count > 1) {
    Scene fewer = scene;
    --fewer.objects.front().count;
    wrong["count, one fewer"] = fewer;
  }
  const auto words = colour_words();
  Scene recoloured = scene;
  for (SceneObject& object : recoloured.objects) {
    if (object.colour.empty()) continue;
    const auto at = std::find(words.begin(), words.end(), object.colour) - words.begin();
    object.colour = words[(static_cast<size_t>(at) + 3) % words.size()];
    wrong["colour"] = recoloured;
    break;
  }
  const std::string& stranger = other.objects.front().name;
  if (!names_of(scene).contains(stranger)) {
    Scene replaced = scene;
    replaced.objects.front().name = stranger;
    replaced.objects.front().colour.clear();
    wrong["object"] = replaced;
  }
  return wrong;
}

}  // namespace

MatcherReport check_matcher(const std::vector<SceneFile>& scenes, const ObjectLibrary& library) {
  MatcherReport report;
  for (size_t i = 0; i < scenes.size(); ++i) {
    const Scene& scene = scenes[i].scene;
    const Image picture = to_rgb(read_image(scenes[i].picture));
    const FoundScene found = find_objects(picture, library);
    report.plain.add(judge(found, scene, library));
    report.blurred.add(judge(find_objects(blurred(picture), library), scene, library));
    report.noisy.add(judge(find_objects(noisy(picture, i), library), scene, library));
    report.tinted.add(judge(find_objects(tinted(picture), library), scene, library));
    if (scene.kind == "single") {
      ++report.single_objects;
      const std::string first = found.objects.empty() || found.objects.front().nouns.empty()
                                    ? "nothing"
                                    : found.objects.front().nouns.front().noun;
      if (first == scene.objects.front().name) {
        ++report.single_objects_first;
      } else {
        ++report.confusions[{scene.objects.front().name, first}];
      }
    }
    for (const auto& [what, wrong] : wrong_scenes(scene, scenes[(i + 1) % scenes.size()].scene)) {
      report.wrong[what].add(judge(found, wrong, library));
    }
  }
  return report;
}

std::string to_table(const MatcherReport& report) {
  std::string table = fmt::format("Noun ranked first: {} of {} single objects\n", report.single_objects_first,
                                  report.single_objects);
  const std::pair<const char*, const AdherenceScores*> right[] = {{"Plain", &report.plain},
                                                                  {"Blurred", &report.blurred},
                                                                  {"Noisy", &report.noisy},
                                                                  {"Tinted", &report.tinted}};
  for (const auto& [name, scores] : right) table += fmt::format("{}\n{}", name, to_table(*scores));
  table += "Wrongly described, yet accepted\n";
  for (const auto& [what, scores] : report.wrong) {
    table += fmt::format("{:<18}{} of {}\n", what, scores.all, scores.total);
  }
  table += "Taken for another\n";
  for (const auto& [pair, times] : report.confusions) {
    table += fmt::format("{} as {}: {}\n", pair.first, pair.second, times);
  }
  return table;
}

}  // namespace sinopia
