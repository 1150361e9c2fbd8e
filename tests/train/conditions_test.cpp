#include <cmath>
#include <fstream>
#include <optional>
#include <random>

#include <gtest/gtest.h>

#include "sinopia/io/image.h"
#include "sinopia/train/trainers/conditions/condition.h"
#include "sinopia/train/trainers/conditions/labels.h"
#include "sinopia/train/trainers/conditions/semantic_maps.h"
#include "tests/kind_of.h"
#include "tests/temporary_folder.h"

namespace sinopia {
namespace {

using testing::kind_of;
using testing::TemporaryFolder;

/// A set of small pictures, one for each class, the set it makes, and a denoiser with a class table.
struct Classes {
  explicit Classes(const std::vector<std::string>& labels, double caption_dropout = 0.25) {
    std::ofstream lines(folder.path() / "set.jsonl");
    for (size_t i = 0; i < labels.size(); ++i) {
      const std::string file = std::to_string(i) + ".png";
      write_image(folder.path() / file, make_image(8, 8, 3));
      lines << R"({"file": ")" << file << R"(", "caption": "")";
      if (!labels[i].empty()) lines << R"(, "class": ")" << labels[i] << '"';
      lines << "}\n";
    }
    lines.close();
    recipe.data.paths = {(folder.path() / "set.jsonl").string()};
    recipe.data.validation_examples = 0;
    recipe.diffusion.caption_dropout = caption_dropout;
    data.emplace(recipe.data, 1, 3);
    unet.class_embedding = UNetClassEmbedding::Table;
    unet.num_class_embeds = 8;
  }

  std::unique_ptr<Condition> condition() const { return make_labels({recipe, unet, {}, *data, names}); }

  /// The row of an example, as a batch of one draws it.
  int32_t row(const Condition& condition, int64_t example, bool trained_on, uint32_t step) const {
    const ConditionSource source{{{example, {}, false}}, trained_on, {}, [&](Purpose purpose, size_t i) {
                                   return Draws(3, purpose, step, static_cast<uint32_t>(i));
                                 }};
    TensorMap prepared;
    condition.prepare(source, prepared);
    return prepared.at("label").data<int32_t>()[0];
  }

  TemporaryFolder folder;
  Recipe recipe;
  std::optional<TrainingSet> data;
  UNetConfig unet;
  std::vector<std::string> names;
};

TEST(LabelCondition, IsTheRowOfTheNameOrTheLastOfNone) {
  Classes classes({"cat", "bird", "dog"});
  classes.names = {"dog", "ant", "bird", "cat"};
  const auto condition = classes.condition();
  const std::vector<int32_t> rows = {3, 2, 0};
  constexpr int kSteps = 2000;
  for (int64_t example = 0; example < 3; ++example) {
    const int32_t own = rows[static_cast<size_t>(example)];
    EXPECT_EQ(classes.row(*condition, example, false, 1), own);
    int dropped = 0;
    for (uint32_t step = 0; step < kSteps; ++step) {
      const int32_t row = classes.row(*condition, example, true, step);
      if (row != own) {
        ASSERT_EQ(row, 7);
        ++dropped;
      }
    }
    EXPECT_NEAR(dropped, kSteps * 0.25, 5 * std::sqrt(kSteps * 0.25 * 0.75));
  }
}

TEST(LabelCondition, OfTwoClassesOfOneNameIsTheFirstAndTheOthersKeepTheirRows) {
  Classes classes({"crane", "owl"});
  classes.names = {"ant", "crane", "bee", "crane", "owl"};
  const auto condition = classes.condition();
  EXPECT_EQ(classes.row(*condition, 0, false, 1), 1);
  EXPECT_EQ(classes.row(*condition, 1, false, 1), 4);
  // Five classes and none at all take six rows.
  classes.unet.num_class_embeds = 6;
  EXPECT_NO_THROW(classes.condition());
  classes.unet.num_class_embeds = 5;
  EXPECT_EQ(kind_of([&] { classes.condition(); }), ErrorKind::InvalidArgument);
  classes.recipe.diffusion.caption_dropout = 0;
  EXPECT_NO_THROW(classes.condition());
}

TEST(LabelCondition, RefusesPicturesWithoutAClassOrOfAnother) {
  Classes nameless({"cat", ""});
  nameless.names = {"cat"};
  EXPECT_EQ(kind_of([&] { nameless.condition(); }), ErrorKind::InvalidArgument);
  Classes others({"cat", "dog"});
  others.names = {"cat", "bird"};
  EXPECT_EQ(kind_of([&] { others.condition(); }), ErrorKind::InvalidArgument);
}

constexpr int kClasses = 5, kFactor = 4, kGrayStep = 60;

/// A picture of plain blocks whose gray values say the class that its map has there; the map may be smaller.
void write_blocks(const std::filesystem::path& folder, int number, int shrink) {
  constexpr int kBlock = 12;
  std::mt19937 engine(static_cast<unsigned>(number));
  const int columns = 3 + number, rows = 5;
  Image picture = make_image(columns * kBlock, rows * kBlock, 3);
  Image map = make_image(picture.width / shrink, picture.height / shrink, 1);
  std::vector<int> classes;
  for (int i = 0; i < columns * rows; ++i) classes.push_back(static_cast<int>(engine() % kClasses));
  const auto class_at = [&](int y, int x) {
    return classes[static_cast<size_t>(y / kBlock * columns + x / kBlock)];
  };
  for (int y = 0; y < picture.height; ++y)
    for (int x = 0; x < picture.width; ++x)
      std::fill_n(picture.pixel(y, x), 3, static_cast<uint8_t>(class_at(y, x) * kGrayStep));
  for (int y = 0; y < map.height; ++y)
    for (int x = 0; x < map.width; ++x)
      *map.pixel(y, x) = static_cast<uint8_t>(class_at(y * shrink, x * shrink));
  const std::string name = std::to_string(number);
  write_image(folder / (name + ".png"), picture);
  write_image(folder / (name + ".map.png"), map);
}

// The map is cut and mirrored as the picture is: wherever the prepared picture is plain, it is of the map's
// class.
TEST(SemanticMapCondition, LiesOnThePicture) {
  const TemporaryFolder folder;
  for (int i = 0; i < 4; ++i) write_blocks(folder.path(), i, 1 + 3 * (i % 2));
  Recipe recipe;
  recipe.data.paths = {folder.path().string()};
  recipe.data.allow_missing_captions = true;
  recipe.data.validation_examples = 0;
  recipe.data.width = 32;
  recipe.data.height = 48;
  recipe.data.shorter_side = 56;
  recipe.data.crop = Cropping::Random;
  recipe.data.flip = 0.5;
  const TrainingSet data(recipe.data, 4, 3);
  UNetConfig unet;
  unet.semantic_classes = kClasses;
  unet.in_channels = 4 + kClasses;
  AutoencoderConfig autoencoder;
  autoencoder.channels = {8, 8, 8};
  ASSERT_EQ(autoencoder.factor(), kFactor);
  const std::vector<std::string> no_names;
  const auto condition = make_semantic_maps({recipe, unet, autoencoder, data, no_names});
  EXPECT_EQ(condition->channels(), kClasses);

  int compared = 0, mirrored = 0;
  for (int64_t number = 0; number < 12; ++number) {
    const TrainingSet::Batch batch = data.batch(number);
    ConditionSource source{{}, true, {}, {}};
    std::vector<Tensor> pictures;
    for (size_t i = 0; i < batch.examples.size(); ++i) {
      const PreparedPicture picture =
          data.picture(batch.examples[i], batch.size, number, static_cast<int64_t>(i));
      source.examples.push_back({batch.examples[i], picture.size, picture.flipped});
      pictures.push_back(picture.x);
      mirrored += picture.flipped;
    }
    TensorMap prepared;
    condition->prepare(source, prepared);
    const Tensor& maps = prepared.at("semantic_map");
    ASSERT_EQ(maps.shape(), (Shape{4, 12, 8, kClasses}));
    for (size_t i = 0; i < pictures.size(); ++i) {
      for (int64_t y = 0; y < 12; ++y) {
        for (int64_t x = 0; x < 8; ++x) {
          // The four pixels around the middle of the cell, and a ring around them.
          float low = 1, high = -1;
          for (int64_t v = 4 * y; v < 4 * y + 4; ++v) {
            for (int64_t u = 4 * x; u < 4 * x + 4; ++u) {
              const float value = pictures[i].data<float>()[(v * 32 + u) * 3];
              low = std::min(low, value);
              high = std::max(high, value);
            }
          }
          if (high - low > 0.05f) continue;  // on an edge
          const auto want = std::lround((low + 1) * 127.5 / kGrayStep);
          const float* const cell =
              maps.data<float>() + ((static_cast<int64_t>(i) * 12 + y) * 8 + x) * kClasses;
          ASSERT_EQ(cell[want], 1) << "picture " << i << " of batch " << number << ", cell " << y << ", "
                                   << x;
          ++compared;
        }
      }
    }
  }
  EXPECT_GT(compared, 12 * 4 * 96 / 3);
  EXPECT_GT(mirrored, 10);
  EXPECT_LT(mirrored, 38);
}

TEST(SemanticMapCondition, NamesThePictureWhoseMapIsWrong) {
  const TemporaryFolder folder;
  write_blocks(folder.path(), 1, 1);
  Recipe recipe;
  recipe.data.paths = {folder.path().string()};
  recipe.data.allow_missing_captions = true;
  recipe.data.validation_examples = 0;
  const TrainingSet data(recipe.data, 1, 3);
  UNetConfig unet;
  unet.semantic_classes = 1;
  unet.in_channels = 5;
  const std::vector<std::string> no_names;
  const auto condition = make_semantic_maps({recipe, unet, {}, data, no_names});
  const ConditionSource source{{{0, {{60, 48}, 0, 0, {60, 48}, {60, 48}}, false}}, true, {}, {}};
  TensorMap prepared;
  try {
    condition->prepare(source, prepared);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::InvalidArgument);
    EXPECT_NE(std::string(error.what()).find("'1.png'"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace sinopia
