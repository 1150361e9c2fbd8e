#include "sinopia/train/data/picture_preparation.h"

#include <cmath>
#include <fstream>
#include <map>
#include <random>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <zlib.h>

#include "sinopia/io/image_tensor.h"
#include "sinopia/io/safetensors.h"
#include "tests/kind_of.h"
#include "tests/reference.h"

namespace sinopia {
namespace {

using ::testing::ElementsAre;
using testing::kind_of;
using testing::same_bits;

Image random_image(int width, int height, int channels, unsigned seed) {
  Image image = make_image(width, height, channels);
  std::mt19937 engine(seed);
  for (uint8_t& p : image.pixels) p = static_cast<uint8_t>(engine());
  return image;
}

std::vector<uint8_t> pixels_of(const Tensor& x) {
  return tensor_to_images(x.reshape({1, x.dim(0), x.dim(1), 3}))[0].pixels;
}

TEST(PicturePreparation, IsPillows) {
  const TensorFile golden = read_safetensors(SINOPIA_TEST_DATA "/train/training_data.safetensors");
  const auto json = nlohmann::json::parse(std::ifstream(SINOPIA_TEST_DATA "/train/training_data.json"));
  const Tensor& source = golden.tensors.at("picture.whole");
  Image image = make_image(static_cast<int>(source.dim(1)), static_cast<int>(source.dim(0)), 3);
  image.pixels = source.to_vector<uint8_t>();
  const std::map<std::string, Resampling> filters{
      {"box", Resampling::Box}, {"bicubic", Resampling::Bicubic}, {"lanczos", Resampling::Lanczos}};
  for (const auto& c : json["prepared"]) {
    SCOPED_TRACE(c.dump());
    const PictureSize target{c["height"], c["width"]};
    PicturePreparation options{.resampling = filters.at(c["filter"])};
    options.flip_probability = c["mirror"] ? 1 : 0;
    const PreparedPicture got = prepare_picture(image, target, options, true, 1, 2);
    ASSERT_EQ(got.x.shape(), Shape({target.height, target.width, 3}));
    const auto pixels = pixels_of(got.x);
    EXPECT_EQ(crc32(0, pixels.data(), static_cast<uInt>(pixels.size())), c["crc"].get<uint32_t>());
    EXPECT_EQ(got.flipped, c["mirror"].get<bool>());
    const PictureSize resized = covering_size({17, 23}, target);
    EXPECT_THAT(got.size.values(), ElementsAre(17, 23, c["top"].get<int>(), c["left"].get<int>(),
                                               target.height, target.width, resized.height, resized.width));
  }
}

TEST(PicturePreparation, TheLeastCoveringSize) {
  std::mt19937 engine(1);
  for (int i = 0; i < 2000; ++i) {
    const auto side = [&] { return 1 + static_cast<int>(engine() % 300); };
    const PictureSize picture{side(), side()}, target{side(), side()};
    const PictureSize size = covering_size(picture, target);
    ASSERT_TRUE(size.height >= target.height && size.width >= target.width);
    ASSERT_TRUE(size.height == target.height || size.width == target.width);
    const double scale = std::max(static_cast<double>(target.height) / picture.height,
                                  static_cast<double>(target.width) / picture.width);
    ASSERT_LE(std::abs(size.height - scale * picture.height), 0.5 + 1e-9);
    ASSERT_LE(std::abs(size.width - scale * picture.width), 0.5 + 1e-9);
  }
  EXPECT_EQ(kind_of([] { covering_size({1, 20000}, {512, 512}); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([] { covering_size({0, 4}, {4, 4}); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([] { covering_size({4, 4}, {4, 0}); }), ErrorKind::InvalidArgument);
}

TEST(PicturePreparation, ARandomCropIsWhereItSaysAndGoesEverywhere) {
  const Image image = random_image(13, 31, 3, 2);
  PicturePreparation options;
  options.cropping = Cropping::Random;
  options.flip_probability = 0.5;
  const PictureSize target{8, 8};
  const Image whole = resize(image, 8, 19);
  std::map<int, int> tops;
  int flips = 0;
  constexpr int kCount = 2400;
  for (uint32_t step = 0; step < kCount; ++step) {
    const PreparedPicture got = prepare_picture(image, target, options, true, 3, step);
    ++tops[got.size.crop_top];
    flips += got.flipped;
    EXPECT_EQ(got.size.crop_left, 0);
    const Image from = got.flipped ? flipped(whole) : whole;
    ASSERT_EQ(pixels_of(got.x), crop(from, 0, got.size.crop_top, 8, 8).pixels);
  }
  EXPECT_EQ(tops.size(), 12u);
  for (const auto& [top, count] : tops) EXPECT_NEAR(count, kCount / 12, 5 * std::sqrt(kCount / 12.0)) << top;
  EXPECT_NEAR(flips, kCount / 2, 5 * std::sqrt(kCount / 4.0));
}

TEST(PicturePreparation, AShorterSideIsThatOfThePictureThatIsCut) {
  const Image image = random_image(30, 20, 3, 7);
  const auto prepared = [&](int shorter_side) {
    return prepare_picture(image, {8, 10}, {.shorter_side = shorter_side}, true, 1, 1);
  };
  const PreparedPicture larger = prepared(14);
  EXPECT_EQ(pixels_of(larger.x), crop(resize(image, 21, 14), 5, 3, 10, 8).pixels);
  EXPECT_EQ(larger.size.resized, (PictureSize{14, 21}));
  EXPECT_EQ(larger.size.crop_top, 3);
  EXPECT_EQ(larger.size.crop_left, 5);
  // Less than the crop needs: as if nothing had been said.
  EXPECT_EQ(pixels_of(prepared(7).x), pixels_of(prepared(0).x));
  EXPECT_EQ(prepared(7).size.resized, (PictureSize{8, 12}));
  EXPECT_EQ(kind_of([&] { prepared(-1); }), ErrorKind::InvalidArgument);
}

TEST(PicturePreparation, DependsOnSeedStepAndIndexAlone) {
  const Image image = random_image(40, 40, 4, 3);
  PicturePreparation options{.cropping = Cropping::Random};
  options.background.reset();
  const auto make = [&](uint64_t seed, uint32_t step, uint32_t index) {
    return prepare_picture(image, {5, 9}, options, true, seed, step, index).x;
  };
  EXPECT_TRUE(same_bits(make(1, 2, 3), make(1, 2, 3)));
  EXPECT_FALSE(same_bits(make(1, 2, 3), make(2, 2, 3)));
  EXPECT_FALSE(same_bits(make(1, 2, 3), make(1, 3, 3)));
  EXPECT_FALSE(same_bits(make(1, 2, 3), make(1, 2, 4)));
}

TEST(PicturePreparation, APictureThatMustNotIsNotMirrored) {
  const Image image = random_image(6, 6, 3, 4);
  const PicturePreparation options{.flip_probability = 1};
  EXPECT_EQ(pixels_of(prepare_picture(image, {6, 6}, options, false, 1, 1).x), image.pixels);
  EXPECT_EQ(pixels_of(prepare_picture(image, {6, 6}, options, true, 1, 1).x), flipped(image).pixels);
  EXPECT_EQ(flipped(flipped(image)).pixels, image.pixels);
  EXPECT_EQ(flipped(image).pixel(2, 0)[1], image.pixel(2, 5)[1]);
}

TEST(PicturePreparation, LaysTransparentPicturesOverABackground) {
  Image image = random_image(2, 1, 4, 5);
  image.pixels[3] = 0;
  image.pixels[7] = 255;
  const auto on = [&](std::optional<Color> background, uint32_t step) {
    PicturePreparation options;
    options.background = background;
    return pixels_of(prepare_picture(image, {1, 2}, options, true, 1, step).x);
  };
  const auto& p = image.pixels;
  EXPECT_THAT(on(Color{10, 20, 30}, 0), ElementsAre(10, 20, 30, p[4], p[5], p[6]));
  EXPECT_THAT(on(Color{}, 0), ElementsAre(255, 255, 255, p[4], p[5], p[6]));
  std::set<int> seen;
  double mean = 0;
  constexpr int kCount = 3000;
  for (uint32_t step = 0; step < kCount; ++step) {
    const auto pixels = on(std::nullopt, step);
    mean += (pixels[0] + pixels[1] + pixels[2]) / 3.0 / kCount;
    seen.insert(pixels[0] << 16 | pixels[1] << 8 | pixels[2]);
  }
  EXPECT_GT(seen.size(), 2990u);
  EXPECT_NEAR(mean, 127.5, 5 * 74 / std::sqrt(3.0 * kCount));
}

TEST(PicturePreparation, RefusesWhatMakesNoSense) {
  const Image image = random_image(6, 6, 3, 6);
  for (const double p : {-0.1, 1.1, std::nan("")})
    EXPECT_EQ(kind_of([&] {
                prepare_picture(image, {4, 4}, {.flip_probability = p}, true, 1, 1);
              }),
              ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { prepare_picture(Image{}, {4, 4}, {}, true, 1, 1); }), ErrorKind::InvalidArgument);
}

}  // namespace
}  // namespace sinopia
