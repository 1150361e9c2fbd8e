#include "sinopia/train/evaluation/scene.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <string_view>

#include <nlohmann/json.hpp>

#include "sinopia/base/error.h"
#include "sinopia/train/evaluation/colour_names.h"

namespace sinopia {
namespace {

using nlohmann::json;

void check_fields(const json& value, std::initializer_list<std::string_view> known) {
  SINOPIA_CHECK(value.is_object(), InvalidArgument, "[scene] expected an object, got {}", value.type_name());
  for (const auto& item : value.items()) {
    SINOPIA_CHECK(std::find(known.begin(), known.end(), item.key()) != known.end(), InvalidArgument,
                  "[scene] unknown field '{}'", item.key());
  }
}

void check_colour(const std::string& word) {
  const auto words = colour_words();
  SINOPIA_CHECK(std::find(words.begin(), words.end(), word) != words.end(), InvalidArgument,
                "[scene] unknown colour '{}'", word);
}

SceneObject parse_object(const json& value) {
  check_fields(value, {"name", "colour", "natural", "count", "boxes", "pictures"});
  SceneObject object;
  object.name = value.at("name").get<std::string>();
  if (!value.at("colour").is_null()) {
    object.colour = value.at("colour").get<std::string>();
    check_colour(object.colour);
  }
  object.natural = value.at("natural").get<bool>();
  object.count = value.at("count").get<int>();
  SINOPIA_CHECK(object.count > 0, InvalidArgument, "[scene] expected a count of at least 1, got {}",
                object.count);
  if (value.contains("boxes")) {
    for (const auto& box : value.at("boxes").get<std::vector<std::array<int, 4>>>()) {
      object.boxes.push_back({box[0], box[1], box[2], box[3]});
    }
  }
  if (value.contains("pictures")) object.pictures = value.at("pictures").get<std::vector<std::string>>();
  for (const size_t size : {object.boxes.size(), object.pictures.size()}) {
    SINOPIA_CHECK(size == 0 || size == static_cast<size_t>(object.count), InvalidArgument,
                  "[scene] expected {} boxes and pictures of '{}', got {}", object.count, object.name, size);
  }
  return object;
}

Relation parse_relation(const std::string& word) {
  if (word == "left_of") return Relation::LeftOf;
  if (word == "right_of") return Relation::RightOf;
  if (word == "above") return Relation::Above;
  if (word == "below") return Relation::Below;
  fail(ErrorKind::InvalidArgument, "[scene] unknown relation '{}'", word);
}

}  // namespace

Scene parse_scene(const json& value) try {
  check_fields(value, {"kind", "background", "objects", "relations"});
  Scene scene;
  scene.kind = value.at("kind").get<std::string>();
  scene.background = value.at("background").get<std::string>();
  check_colour(scene.background);
  for (const auto& object : value.at("objects")) scene.objects.push_back(parse_object(object));
  SINOPIA_CHECK(!scene.objects.empty(), InvalidArgument, "[scene] expected at least one object, got none");
  const auto size = static_cast<int>(scene.objects.size());
  for (const auto& entry : value.at("relations")) {
    check_fields(entry, {"subject", "relation", "object"});
    const SceneRelation relation{entry.at("subject").get<int>(),
                                 parse_relation(entry.at("relation").get<std::string>()),
                                 entry.at("object").get<int>()};
    SINOPIA_CHECK(std::min(relation.subject, relation.object) >= 0 &&
                      std::max(relation.subject, relation.object) < size,
                  InvalidArgument, "[scene] a relation names an object outside 0..{}", size - 1);
    scene.relations.push_back(relation);
  }
  return scene;
} catch (const json::exception& error) {
  fail(ErrorKind::InvalidArgument, "[scene] {}", error.what());
}

}  // namespace sinopia
