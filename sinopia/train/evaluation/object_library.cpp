#include "sinopia/train/evaluation/object_library.h"

#include <algorithm>
#include <cmath>

#include "sinopia/base/error.h"
#include "sinopia/train/evaluation/scene_set.h"

namespace sinopia {
namespace {

constexpr size_t kSide = ObjectLook::kSide, kCells = ObjectLook::kCells;
constexpr int kLooksKept = 2;
constexpr size_t kShortlist = 160;

/// Names one of an object's pictures in its colour.
std::string picture_key(const SceneObject& object, size_t i) {
  return object.name + "/" + (i < object.pictures.size() ? object.pictures[i] : "") + "/" + object.colour;
}

size_t cell_of(size_t i, bool mirrored) { return mirrored ? i / kSide * kSide + (kSide - 1 - i % kSide) : i; }

float shape_distance(const ObjectLook& a, const ObjectLook& b, bool mirrored) {
  float apart = 0, both = 0;
  for (size_t i = 0; i < kCells; ++i) {
    const float u = a.coverage[i], v = b.coverage[cell_of(i, mirrored)];
    apart += (u - v) * (u - v);
    both += u * u + v * v;
  }
  return apart / (both + 1e-6F);
}

// Over the cells that both cover: the plain difference, or with hue left out and luminance taken from its own
// mean.
float colour_distance(const ObjectLook& a, const ObjectLook& b, bool mirrored) {
  float weight = 0, plain = 0, sum = 0, squares = 0;
  for (size_t i = 0; i < kCells; ++i) {
    const size_t j = cell_of(i, mirrored);
    const float u = a.coverage[i], v = b.coverage[j], w = u * v;
    if (w < 0.05F) continue;
    const float light = a.lab[i] / u - b.lab[j] / v;
    const float red = a.lab[kCells + i] / u - b.lab[kCells + j] / v;
    const float blue = a.lab[2 * kCells + i] / u - b.lab[2 * kCells + j] / v;
    weight += w;
    sum += w * light;
    squares += w * light * light;
    plain += w * (light * light + red * red + blue * blue);
  }
  if (weight < 1) return 1;
  const float mean = sum / weight;
  const float structure = squares / weight - mean * mean;
  return std::min(plain / weight, structure + 0.006F);
}

}  // namespace

ObjectLook look_at(const Segmentation& picture, const Segment& segment) {
  ObjectLook look{std::vector<float>(kCells), std::vector<float>(3 * kCells),
                  std::vector<float>(colour_words().size())};
  const double width = segment.box.right - segment.box.left, height = segment.box.bottom - segment.box.top;
  const double scale = static_cast<double>(kSide) / std::max(width, height);
  const double left = segment.box.left - (std::max(width, height) - width) / 2;
  const double top = segment.box.top - (std::max(width, height) - height) / 2;
  for (const int position : segment.positions) {
    const OkLab& pixel = picture.pixels[static_cast<size_t>(position)];
    look.shares[nearest_colour_word(pixel)] += 1 / static_cast<float>(segment.area);
    const double x0 = (position % picture.width - left) * scale,
                 y0 = (position / picture.width - top) * scale;
    for (size_t v = static_cast<size_t>(std::max(0.0, y0)); v < kSide && static_cast<double>(v) < y0 + scale;
         ++v) {
      const double tall =
          std::min(y0 + scale, static_cast<double>(v) + 1) - std::max(y0, static_cast<double>(v));
      for (size_t u = static_cast<size_t>(std::max(0.0, x0));
           u < kSide && static_cast<double>(u) < x0 + scale; ++u) {
        const double wide =
            std::min(x0 + scale, static_cast<double>(u) + 1) - std::max(x0, static_cast<double>(u));
        const auto part = static_cast<float>(std::max(0.0, wide * tall));
        const size_t cell = v * kSide + u;
        look.coverage[cell] += part;
        for (size_t c = 0; c < 3; ++c) look.lab[c * kCells + cell] += part * pixel[c];
      }
    }
  }
  return look;
}

bool ObjectLibrary::wants(const Scene& scene) const {
  for (const SceneObject& object : scene.objects) {
    for (size_t i = 0; i < object.boxes.size(); ++i) {
      const auto kept = kept_.find(picture_key(object, i));
      if (kept == kept_.end() || kept->second < kLooksKept) return true;
    }
  }
  return false;
}

void ObjectLibrary::add(const Scene& scene, const Image& picture) {
  const Segmentation seen = segment_picture(picture);
  for (const SceneObject& object : scene.objects) {
    SINOPIA_CHECK(!object.boxes.empty(), InvalidArgument, "[object library] a scene without boxes of '{}'",
                  object.name);
    for (size_t i = 0; i < object.boxes.size(); ++i) {
      const PixelBox& box = object.boxes[i];
      Segment whole;
      for (const Segment& part : seen.segments) {
        if (part.x < box.left || part.x >= box.right || part.y < box.top || part.y >= box.bottom) continue;
        whole = whole.area == 0 ? part : joined(whole, part);
      }
      if (whole.area == 0) continue;
      const ObjectLook look = look_at(seen, whole);
      if (!object.colour.empty()) {
        const auto words = colour_words();
        const auto word =
            static_cast<size_t>(std::find(words.begin(), words.end(), object.colour) - words.begin());
        const auto [entry, fresh] = shares_.try_emplace({object.name, object.colour}, look.shares[word]);
        if (!fresh) entry->second = std::min(entry->second, look.shares[word]);
      }
      // A scene's colours may hide parts of an object, so the same picture on another background is another
      // look.
      if (++kept_[picture_key(object, i)] > kLooksKept) continue;
      ++nouns_[object.name];
      looks_.push_back({object.name, look});
    }
  }
}

std::vector<RankedNoun> ObjectLibrary::rank(const ObjectLook& look) const {
  struct Candidate {
    float shape;
    size_t index;
    bool mirrored;
  };
  std::vector<Candidate> candidates;
  for (size_t i = 0; i < looks_.size(); ++i) {
    for (const bool mirrored : {false, true}) {
      candidates.push_back({shape_distance(look, looks_[i].look, mirrored), i, mirrored});
    }
  }
  const size_t kept = std::min(kShortlist, candidates.size());
  std::partial_sort(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(kept),
                    candidates.end(),
                    [](const Candidate& a, const Candidate& b) { return a.shape < b.shape; });
  std::map<std::string, float> best;
  for (size_t i = 0; i < kept; ++i) {
    const Known& known = looks_[candidates[i].index];
    const float distance =
        candidates[i].shape + 3 * colour_distance(look, known.look, candidates[i].mirrored);
    const auto [entry, fresh] = best.try_emplace(known.noun, distance);
    if (!fresh) entry->second = std::min(entry->second, distance);
  }
  std::vector<RankedNoun> ranked;
  for (const auto& [noun, distance] : best) ranked.push_back({noun, distance});
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const RankedNoun& a, const RankedNoun& b) { return a.distance < b.distance; });
  return ranked;
}

float ObjectLibrary::least_colour_share(const std::string& noun, const std::string& colour) const {
  const auto known = shares_.find({noun, colour});
  return known == shares_.end() ? 0.3F : std::max(0.1F, 0.7F * known->second);
}

ObjectLibrary load_object_library(const std::filesystem::path& sets, const std::string& split) {
  ObjectLibrary library;
  for (const SceneFile& file : list_scenes(sets, split))
    if (library.wants(file.scene)) library.add(file.scene, read_image(file.picture));
  SINOPIA_CHECK(library.looks() > 0, InvalidArgument, "[load_object_library] no scene of split '{}' in {}",
                split, sets.string());
  return library;
}

}  // namespace sinopia
