#include "sinopia/train/evaluation/colour_names.h"

#include <cmath>
#include <vector>

namespace sinopia {
namespace {

constexpr std::array<std::string_view, 11> kWords = {"red",  "orange", "yellow", "green", "blue", "purple",
                                                     "pink", "brown",  "black",  "white", "grey"};

struct Shade {
  size_t word;
  Color colour;
};

// The first shade of a word is its background. The same figures as tools/datasets/colours.py.
constexpr Shade kShades[] = {
    {0, {214, 40, 40}},   {0, {240, 70, 60}},    {0, {170, 20, 30}},    {0, {255, 0, 0}},
    {0, {130, 15, 20}},   {1, {245, 130, 32}},   {1, {255, 160, 60}},   {1, {230, 100, 20}},
    {1, {255, 128, 0}},   {2, {250, 212, 50}},   {2, {255, 255, 0}},    {2, {255, 235, 120}},
    {2, {235, 190, 20}},  {2, {255, 200, 40}},   {3, {50, 160, 70}},    {3, {0, 255, 0}},
    {3, {0, 128, 0}},     {3, {120, 190, 70}},   {3, {20, 90, 50}},     {3, {150, 220, 140}},
    {3, {0, 170, 140}},   {4, {40, 100, 220}},   {4, {0, 0, 255}},      {4, {20, 50, 130}},
    {4, {90, 160, 240}},  {4, {60, 190, 235}},   {4, {160, 205, 245}},  {4, {45, 130, 170}},
    {5, {125, 60, 180}},  {5, {150, 90, 210}},   {5, {85, 30, 120}},    {5, {180, 130, 230}},
    {5, {170, 50, 190}},  {6, {250, 140, 190}},  {6, {255, 105, 180}},  {6, {235, 60, 140}},
    {6, {255, 190, 215}}, {6, {245, 150, 160}},  {7, {125, 78, 45}},    {7, {95, 60, 40}},
    {7, {160, 105, 65}},  {7, {70, 42, 30}},     {7, {185, 140, 100}},  {8, {28, 28, 30}},
    {8, {0, 0, 0}},       {8, {45, 45, 48}},     {9, {255, 255, 255}},  {9, {245, 245, 240}},
    {9, {235, 238, 242}}, {10, {140, 140, 145}}, {10, {100, 100, 105}}, {10, {185, 185, 190}},
    {10, {120, 135, 145}}};

std::array<float, 256> linear_light() {
  std::array<float, 256> table{};
  for (size_t i = 0; i < table.size(); ++i) {
    const double c = static_cast<double>(i) / 255;
    table[i] = static_cast<float>(c <= 0.04045 ? c / 12.92 : std::pow((c + 0.055) / 1.055, 2.4));
  }
  return table;
}

}  // namespace

OkLab to_oklab(Color colour) {
  static const auto table = linear_light();
  const float r = table[colour.red], g = table[colour.green], b = table[colour.blue];
  const float l = std::cbrt(0.4122214708F * r + 0.5363325363F * g + 0.0514459929F * b);
  const float m = std::cbrt(0.2119034982F * r + 0.6806995451F * g + 0.1073969566F * b);
  const float s = std::cbrt(0.0883024619F * r + 0.2817188376F * g + 0.6299787005F * b);
  return {0.2104542553F * l + 0.7936177850F * m - 0.0040720468F * s,
          1.9779984951F * l - 2.4285922050F * m + 0.4505937099F * s,
          0.0259040371F * l + 0.7827717662F * m - 0.8086757660F * s};
}

float squared_distance(const OkLab& a, const OkLab& b) {
  const float l = a[0] - b[0], u = a[1] - b[1], v = a[2] - b[2];
  return l * l + u * u + v * v;
}

std::span<const std::string_view> colour_words() { return kWords; }

Color palette_colour(size_t word) {
  for (const Shade& shade : kShades) {
    if (shade.word == word) return shade.colour;
  }
  return {};
}

size_t nearest_colour_word(const OkLab& colour) {
  static const auto anchors = [] {
    std::vector<OkLab> all;
    for (const Shade& shade : kShades) all.push_back(to_oklab(shade.colour));
    return all;
  }();
  size_t best = 0;
  for (size_t i = 1; i < anchors.size(); ++i) {
    if (squared_distance(anchors[i], colour) < squared_distance(anchors[best], colour)) best = i;
  }
  return kShades[best].word;
}

}  // namespace sinopia
