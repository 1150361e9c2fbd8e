#pragma once

#include <string>
#include <vector>

#include "sinopia/train/evaluation/object_library.h"

namespace sinopia {

struct FoundObject {
  std::vector<RankedNoun> nouns;  ///< the best first
  std::vector<float> shares;      ///< by colour word
  double x = 0, y = 0;            ///< centroid in pixels
  PixelBox box;
};

struct FoundScene {
  std::string background;  ///< colour word
  std::vector<FoundObject> objects;
};

/// Which objects a picture shows. Parts are joined where together they look more like a known object than
/// apart.
FoundScene find_objects(const Image& picture, const ObjectLibrary& library);

/// What is right about a picture. Positions need the objects; they are right where a scene asks for none and
/// the objects are right. An extra or unknown thing makes objects and counts wrong.
struct Verdict {
  bool objects = false, counts = false, colours = false, positions = false, background = false;
  bool all() const { return objects && counts && colours && positions && background; }
};

Verdict judge(const FoundScene& found, const Scene& expected, const ObjectLibrary& library);

}  // namespace sinopia
