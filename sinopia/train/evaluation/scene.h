#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace sinopia {

/// Left, top, right, bottom in pixels; right and bottom are exclusive.
struct PixelBox {
  int left = 0, top = 0, right = 0, bottom = 0;
};

struct SceneObject {
  std::string name;
  std::string colour;  ///< one of colour_words(), or empty where the caption names none
  bool natural = false;
  int count = 1;
  std::vector<PixelBox> boxes;        ///< `count` of them, or none in an evaluation prompt
  std::vector<std::string> pictures;  ///< as boxes
};

enum class Relation { LeftOf, RightOf, Above, Below };

struct SceneRelation {
  int subject = 0;
  Relation relation = Relation::LeftOf;
  int object = 0;
};

/// What a picture ought to show: the `scene` of metadata.jsonl and the `expect` of evaluation_prompts.jsonl
/// (tools/datasets/README.md).
struct Scene {
  std::string kind;
  std::string background;
  std::vector<SceneObject> objects;
  std::vector<SceneRelation> relations;
};

/// Throws InvalidArgument for a missing or unknown field, an unknown colour or relation, a count below one, a
/// relation to an object that is not there, or as many boxes or pictures as do not fit the count.
Scene parse_scene(const nlohmann::json& value);

}  // namespace sinopia
