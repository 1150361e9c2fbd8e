#include "sinopia/train/trainers/training_set.h"

#include <fstream>
#include <set>

#include "sinopia/io/picture_grid.h"
#include "tests/reference.h"
#include "tests/temporary_folder.h"

namespace sinopia {
namespace {

using namespace testing;

/// `count` pictures of 8x8 in a gray of their own; every third in the split "validation" if `splits`.
class Pictures {
 public:
  explicit Pictures(int count, bool splits = false) {
    std::ofstream lines(folder_ / "metadata.jsonl");
    for (int i = 0; i < count; ++i) {
      Image image = make_image(8 + 8 * (i % 2), 8, 3);
      std::fill(image.pixels.begin(), image.pixels.end(), static_cast<uint8_t>(i));
      const std::string name = fmt::format("{}.png", i);
      write_image(folder_ / name, image);
      lines << fmt::format(R"({{"file": "{}", "captions": ["{}", "also {}"], "split": "{}"}})", name, i, i,
                           !splits      ? ""
                           : i % 3 == 0 ? "validation"
                           : i % 3 == 1 ? "train"
                                        : "heldout")
            << "\n";
    }
  }
  DataRecipe recipe() const {
    DataRecipe r;
    r.paths = {(folder_ / "metadata.jsonl").string()};
    r.width = r.height = 8;
    r.validation_examples = 5;
    return r;
  }

 private:
  TemporaryFolder folder_;
};

std::set<std::string> trained_names(const TrainingSet& set, int64_t epoch = 0) {
  std::set<std::string> names;
  for (int64_t i = 0; i < set.batches_per_epoch(); ++i)
    for (const int64_t example : set.batch(epoch * set.batches_per_epoch() + i).examples)
      names.insert(set[example].name);
  return names;
}

std::set<std::string> validation_names(const TrainingSet& set) {
  std::set<std::string> names;
  for (const int64_t example : set.validation()) names.insert(set[example].name);
  return names;
}

TEST(TrainingSet, KeepsValidationApart) {
  const Pictures pictures(30), split(30, /*splits=*/true);
  DataRecipe recipe = pictures.recipe();
  recipe.last_batch = LastBatch::Keep;
  const TrainingSet lent(recipe, 4, 1);
  EXPECT_EQ(lent.size(), 25);
  EXPECT_EQ(validation_names(lent).size(), 5u);
  const auto trained = trained_names(lent);
  EXPECT_EQ(trained.size(), 25u);
  for (const std::string& name : validation_names(lent)) EXPECT_FALSE(trained.contains(name)) << name;
  EXPECT_EQ(validation_names(TrainingSet(recipe, 4, 2)), validation_names(lent)) << "whatever the seed";

  recipe = split.recipe();
  recipe.last_batch = LastBatch::Keep;
  const TrainingSet all(recipe, 4, 1);
  EXPECT_EQ(all.size(), 20) << "the whole validation split is left out, though only 5 of it are looked at";
  EXPECT_EQ(all.validation().size(), 5u);
  recipe.split = "train";
  EXPECT_EQ(trained_names(TrainingSet(recipe, 4, 1)).size(), 10u);
  recipe.split = "none";
  EXPECT_THROW(TrainingSet(recipe, 4, 1), Error);
}

TEST(TrainingSet, BatchesFollowFromSeedAndNumberAlone) {
  const Pictures pictures(23);
  const DataRecipe recipe = pictures.recipe();
  const TrainingSet a(recipe, 4, 1), b(recipe, 4, 1), c(recipe, 4, 2);
  EXPECT_EQ(a.batches_per_epoch(), 4) << "18 examples, the last two left out";
  bool differ = false;
  for (const int64_t number : {9, 0, 3, 8, 3}) {  // in any order
    EXPECT_EQ(a.batch(number).examples, b.batch(number).examples);
    differ = differ || a.batch(number).examples != c.batch(number).examples;
    for (size_t i = 0; i < 4; ++i) {
      const int64_t example = a.batch(number).examples[i];
      const auto index = static_cast<int64_t>(i);
      EXPECT_EQ(a.caption(example, number, index), b.caption(example, number, index));
    }
  }
  EXPECT_TRUE(differ);
  EXPECT_NE(a.batch(0).examples, a.batch(4).examples) << "another epoch, another order";
}

TEST(TrainingSet, DrawsCropsFlipsAndBuckets) {
  const Pictures pictures(40);
  DataRecipe recipe = pictures.recipe();
  recipe.flip = 0.5;
  const TrainingSet set(recipe, 4, 3);
  EXPECT_TRUE(set.is_fixed());
  int flipped = 0;
  for (int64_t i = 0; i < 200; ++i) flipped += set.mirrored(0, i, 0);
  EXPECT_NEAR(flipped, 100, 35) << "five deviations";
  const std::string plain = set.content_key(0, {8, 8}, false);
  EXPECT_NE(set.content_key(0, {8, 8}, true), plain);
  EXPECT_NE(set.content_key(0, {8, 16}, false), plain);
  EXPECT_NE(set.content_key(1, {8, 8}, false), plain);
  const PreparedPicture picture = set.picture(0, {8, 8}, 7, 2);
  EXPECT_EQ(picture.flipped, set.mirrored(0, 7, 2));
  EXPECT_EQ(picture.x.shape(), (Shape{8, 8, 3}));

  recipe.random_background = true;
  EXPECT_FALSE(TrainingSet(recipe, 4, 3).is_fixed());
  recipe.buckets = true;
  recipe.bucket_multiple = 4;
  recipe.bucket_max_aspect = 4;
  const TrainingSet buckets(recipe, 4, 3);
  std::set<std::pair<int, int>> sizes;
  for (int64_t i = 0; i < buckets.batches_per_epoch(); ++i) {
    const TrainingSet::Batch batch = buckets.batch(i);
    sizes.emplace(batch.size.width, batch.size.height);
    for (const int64_t example : batch.examples) {
      const bool wide = std::stoi(buckets[example].name) % 2 == 1;
      EXPECT_EQ(wide, batch.size.width > batch.size.height);
    }
  }
  EXPECT_EQ(sizes.size(), 2u);
}

TEST(PictureGrid, PutsPicturesInRows) {
  std::vector<Image> pictures;
  for (int i = 0; i < 3; ++i) {
    pictures.push_back(make_image(4, 3 + i, 3));
    std::fill(pictures.back().pixels.begin(), pictures.back().pixels.end(), static_cast<uint8_t>(10 * i));
  }
  const Image grid = picture_grid(pictures, 2);
  EXPECT_EQ(grid.width, 2 * 4 + 2);
  EXPECT_EQ(grid.height, 2 * 5 + 2);
  EXPECT_EQ(grid.pixel(0, 0)[0], 0);
  EXPECT_EQ(grid.pixel(4, 0)[0], 255) << "below the first, which is less high";
  EXPECT_EQ(grid.pixel(3, 9)[1], 10);
  EXPECT_EQ(grid.pixel(11, 3)[2], 20);
  EXPECT_EQ(grid.pixel(11, 9)[0], 255);
  EXPECT_EQ(picture_grid(pictures, 9).width, 3 * 4 + 2 * 2);
  EXPECT_THROW(picture_grid({}, 2), Error);
  EXPECT_THROW(picture_grid(pictures, 0), Error);
}

}  // namespace
}  // namespace sinopia
