#include <cmath>
#include <random>

#include <gtest/gtest.h>

#include "sinopia/io/image.h"
#include "sinopia/train/trainers/conditions/condition.h"
#include "sinopia/train/trainers/conditions/semantic_maps.h"
#include "tests/kind_of.h"
#include "tests/temporary_folder.h"

namespace sinopia {
namespace {

using testing::kind_of;
using testing::TemporaryFolder;

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
  const ConditionSource source{{{0, {{60, 48}, 0, 0, {60, 48}}, false}}, true, {}, {}};
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
