#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "sinopia/train/evaluation/segmentation.h"

namespace sinopia {

/// A picture of one object, fitted into a square grid: how much of a cell it covers, and its mean OKLab
/// there.
struct ObjectLook {
  static constexpr size_t kSide = 24;
  static constexpr size_t kCells = kSide * kSide;
  std::vector<float> coverage;  ///< [kCells] in 0..1
  std::vector<float> lab;       ///< [3,kCells], times the coverage
  std::vector<float> shares;    ///< by colour word, of the covered pixels
};

ObjectLook look_at(const Segmentation& picture, const Segment& segment);

struct RankedNoun {
  std::string noun;
  float distance;  ///< 0 for the same picture; unlike pictures are above 0.1
};

/// The known pictures of each noun, taken from the boxes of composed scenes.
class ObjectLibrary {
 public:
  /// Adds the objects of a scene whose boxes are known. At most two looks of a picture in one colour are
  /// kept. Throws InvalidArgument where the scene has no boxes.
  void add(const Scene& scene, const Image& picture);
  /// Whether add() would keep a look of this scene: pictures that teach nothing need not be read.
  bool wants(const Scene& scene) const;

  /// The nearest look of every noun, the best first. Luminance is compared apart from hue, so that a
  /// recoloured object is still known; mirrored looks count as well.
  std::vector<RankedNoun> rank(const ObjectLook& look) const;

  /// The least share of a colour's pixels that makes a noun be called by it.
  float least_colour_share(const std::string& noun, const std::string& colour) const;

  size_t looks() const { return looks_.size(); }
  bool knows(const std::string& noun) const { return nouns_.contains(noun); }

 private:
  struct Known {
    std::string noun;
    ObjectLook look;
  };
  std::vector<Known> looks_;
  std::map<std::string, int> nouns_;
  std::map<std::string, int> kept_;  // by picture_key()
  std::map<std::pair<std::string, std::string>, float> shares_;
};

/// From the scenes of `split` in a built folder of tools/datasets (metadata.jsonl and pictures). Throws
/// NotFound where there is no such file and InvalidArgument where no scene of the split is in it.
ObjectLibrary load_object_library(const std::filesystem::path& sets, const std::string& split = "train");

}  // namespace sinopia
