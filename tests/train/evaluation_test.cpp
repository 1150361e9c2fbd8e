#include <algorithm>
#include <cmath>
#include <fstream>
#include <random>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "sinopia/train/evaluation/colour_names.h"
#include "sinopia/train/evaluation/matcher_check.h"
#include "sinopia/train/evaluation/picture_quality.h"
#include "tests/kind_of.h"
#include "tests/temporary_folder.h"

namespace sinopia {
namespace {

using nlohmann::json;
using testing::kind_of;
using testing::TemporaryFolder;

struct Drawing {
  Image picture = make_image(128, 128, 3);
  json scene;
};

bool inside(const std::string& shape, double x, double y) {
  if (shape == "circle") return x * x + y * y <= 1;
  if (shape == "square") return std::abs(x) <= 1 && std::abs(y) <= 1;
  return y <= 1 && std::abs(x) <= (y + 1) / 2;
}

Color colour_of(const std::string& word) {
  const auto words = colour_words();
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] == word) return palette_colour(i);
  }
  return {};
}

struct Place {
  int x, y, radius;
};

void draw(Drawing& drawing, const std::string& shape, const std::string& word,
          const std::vector<Place>& places) {
  json boxes = json::array();
  json pictures = json::array();
  const Color colour = colour_of(word);
  for (const auto& [cx, cy, radius] : places) {
    for (int y = cy - radius; y <= cy + radius; ++y) {
      for (int x = cx - radius; x <= cx + radius; ++x) {
        if (!inside(shape, static_cast<double>(x - cx) / radius, static_cast<double>(y - cy) / radius))
          continue;
        uint8_t* pixel = drawing.picture.pixel(y, x);
        pixel[0] = colour.red;
        pixel[1] = colour.green;
        pixel[2] = colour.blue;
      }
    }
    boxes.push_back({cx - radius, cy - radius, cx + radius + 1, cy + radius + 1});
    pictures.push_back("shape_" + shape);
  }
  drawing.scene["objects"].push_back({{"name", shape},
                                      {"colour", word},
                                      {"natural", false},
                                      {"count", places.size()},
                                      {"boxes", boxes},
                                      {"pictures", pictures}});
}

Drawing drawing_on_white(const std::string& kind) {
  Drawing drawing;
  drawing.picture.pixels.assign(drawing.picture.pixels.size(), 255);
  drawing.scene = {
      {"kind", kind}, {"background", "white"}, {"objects", json::array()}, {"relations", json::array()}};
  return drawing;
}

// A folder as tools/datasets makes it.
void write_set(const TemporaryFolder& folder) {
  std::ofstream lines(folder / "metadata.jsonl");
  int number = 0;
  const auto write = [&](const Drawing& drawing, const std::string& split) {
    const std::string name = std::to_string(number++) + ".png";
    write_image(folder / name, drawing.picture);
    lines << json{{"file", name}, {"split", split}, {"scene", drawing.scene}}.dump() << "\n";
  };
  for (const std::string shape : {"circle", "square", "triangle"}) {
    Drawing single = drawing_on_white("single");
    draw(single, shape, "red", {{60, 64, 40}});
    write(single, "train");
    Drawing other = drawing_on_white("single");
    draw(other, shape, "blue", {{70, 60, 35}});
    write(other, "validation");
    Drawing several = drawing_on_white("count");
    draw(several, shape, "green", {{30, 30, 20}, {90, 40, 22}, {50, 95, 21}});
    write(several, "validation");
    Drawing related = drawing_on_white("relation");
    draw(related, shape, "purple", {{30, 60, 22}});
    draw(related, shape == "circle" ? "square" : "circle", "orange", {{95, 66, 20}});
    related.scene["relations"].push_back({{"subject", 0}, {"relation", "left_of"}, {"object", 1}});
    write(related, "validation");
  }
}

TEST(MatcherCheck, PlainShapesAreKnownAndWrongDescriptionsRefused) {
  const TemporaryFolder folder;
  write_set(folder);
  const auto library = load_object_library(folder / "", "train");
  EXPECT_EQ(library.looks(), 3U);
  const auto report = check_matcher(list_scenes(folder / "", "validation"), library);
  EXPECT_EQ(report.plain.total, 9);
  EXPECT_EQ(report.plain.all, 9) << to_table(report);
  EXPECT_EQ(report.blurred.all, 9) << to_table(report);
  EXPECT_EQ(report.single_objects_first, 3);
  EXPECT_EQ(report.wrong.size(), 6U);
  for (const auto& [what, scores] : report.wrong) EXPECT_EQ(scores.all, 0) << what;
}

TEST(Scene, RefusesWhatIsNotOne) {
  const json good = {{"kind", "single"},
                     {"background", "white"},
                     {"objects", {{{"name", "cat"}, {"colour", nullptr}, {"natural", false}, {"count", 2}}}},
                     {"relations", json::array()}};
  EXPECT_EQ(parse_scene(good).objects.front().count, 2);
  const auto refused = [](const json& value) {
    return kind_of([&] { parse_scene(value); }) == ErrorKind::InvalidArgument;
  };
  for (const auto& [path, value] : std::vector<std::pair<std::string, json>>{
           {"/background", "teal"},
           {"/objects/0/count", 0},
           {"/objects/0/size", 3},
           {"/objects", json::array()},
           {"/relations/0", {{"subject", 0}, {"relation", "above"}, {"object", 1}}}}) {
    json bad = good;
    bad[json::json_pointer(path)] = value;
    EXPECT_TRUE(refused(bad)) << path;
  }
}

const json& golden() {
  static const json values =
      json::parse(std::ifstream(std::string(SINOPIA_TEST_DATA) + "/train/evaluation.json"));
  return values;
}

TEST(Adherence, WilsonIntervalsAreScipys) {
  for (const json& row : golden().at("intervals")) {
    const Interval got = wilson_interval(row[0], row[1]);
    EXPECT_NEAR(got.low, row[2].get<double>(), 1e-12) << row;
    EXPECT_NEAR(got.high, row[3].get<double>(), 1e-12) << row;
  }
  EXPECT_EQ(wilson_interval(0, 0).high, 1);
}

TEST(ColourNames, AreThoseOfTheCaptions) {
  const json& words = golden().at("words");
  ASSERT_EQ(words.size(), colour_words().size());
  for (size_t i = 0; i < words.size(); ++i) {
    EXPECT_EQ(words[i], colour_words()[i]);
    const Color color = palette_colour(i);
    EXPECT_EQ(golden().at("backgrounds")[i], (json{color.red, color.green, color.blue})) << words[i];
  }
  const std::string names = golden().at("names");
  size_t at = 0;
  for (int red = 0; red < 256; red += 17) {
    for (int green = 0; green < 256; green += 17) {
      for (int blue = 0; blue < 256; blue += 17) {
        const Color color{static_cast<uint8_t>(red), static_cast<uint8_t>(green), static_cast<uint8_t>(blue)};
        EXPECT_EQ(static_cast<char>('a' + nearest_colour_word(to_oklab(color))), names.at(at++))
            << red << " " << green << " " << blue;
      }
    }
  }
  EXPECT_EQ(at, names.size());
}

/// What tools/golden/evaluation.py makes of the same numbers.
std::pair<Image, Image> picture_pair(unsigned seed, int height, int width, int channels) {
  std::mt19937 engine(seed);
  std::pair<Image, Image> pair{make_image(width, height, channels), make_image(width, height, channels)};
  const auto for_each = [&](Image& picture, const auto& value) {
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x)
        for (int c = 0; c < channels; ++c) picture.pixel(y, x)[c] = static_cast<uint8_t>(value(y, x, c));
  };
  for_each(pair.first, [&](int y, int x, int c) {
    return (3 * x + 2 * y + 40 * c + static_cast<int>(engine() % 64)) % 256;
  });
  for_each(pair.second, [&](int y, int x, int c) {
    return std::clamp(pair.first.pixel(y, x)[c] + static_cast<int>(engine() % 41) - 20, 0, 255);
  });
  return pair;
}

TEST(PictureQuality, AsScikitImage) {
  for (const json& row : golden().at("pictures")) {
    const auto [a, b] =
        picture_pair(row.at("seed"), row.at("shape")[0], row.at("shape")[1], row.at("shape")[2]);
    EXPECT_NEAR(psnr(a, b), row.at("psnr").get<double>(), 1e-9) << row;
    EXPECT_NEAR(ssim(a, b), row.at("ssim").get<double>(), 1e-9) << row;
    EXPECT_DOUBLE_EQ(ssim(a, a), 1);
    EXPECT_TRUE(std::isinf(psnr(a, a)));
  }
}

}  // namespace
}  // namespace sinopia
