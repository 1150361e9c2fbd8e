#include "sinopia/io/image_tensor.h"

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <zlib.h>

#include "sinopia/io/file.h"
#include "sinopia/io/image_resize.h"
#include "tests/kind_of.h"

namespace sinopia {
namespace {

using testing::kind_of;

const std::string kGolden = SINOPIA_TEST_DATA "/io/";

Image take_image(const std::vector<uint8_t>& bytes, size_t& at, int width, int height, int channels) {
  Image image = make_image(width, height, channels);
  std::memcpy(image.pixels.data(), bytes.data() + at, image.pixels.size());
  at += image.pixels.size();
  return image;
}

std::vector<float> take_floats(const std::vector<uint8_t>& bytes, size_t& at, size_t count) {
  std::vector<float> values(count);
  std::memcpy(values.data(), bytes.data() + at, 4 * count);
  at += 4 * count;
  return values;
}

TEST(Resize, EqualsPillowBitForBit) {
  const auto golden = nlohmann::json::parse(std::ifstream(kGolden + "resize.json"));
  const std::vector<uint8_t> bytes = read_file(kGolden + "resize_sources.bin", 1 << 20);
  size_t at = 0;
  std::vector<Image> sources;
  for (int channels = 1; channels <= 4; ++channels) {
    sources.push_back(take_image(bytes, at, golden["width"], golden["height"], channels));
  }
  const std::map<std::string, Resampling> filters = {{"nearest", Resampling::Nearest},
                                                     {"box", Resampling::Box},
                                                     {"bilinear", Resampling::Bilinear},
                                                     {"bicubic", Resampling::Bicubic},
                                                     {"lanczos", Resampling::Lanczos}};
  EXPECT_EQ(golden["cases"].size(), 60u);
  for (const auto& row : golden["cases"]) {
    const Image& source = sources[row["channels"].get<size_t>() - 1];
    const Image result = resize(source, row["width"], row["height"], filters.at(row["filter"]));
    EXPECT_EQ(crc32(0, result.pixels.data(), static_cast<uInt>(result.pixels.size())),
              row["crc"].get<uint32_t>())
        << row;
  }
}

TEST(Resize, RefusesSizesOutOfRange) {
  const Image image = make_image(10, 9000, 1);
  EXPECT_EQ(kind_of([&] { resize(image, 0, 5); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { resize(image, 5, -1); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { resize(image, 10'000, 10'000); }), ErrorKind::InvalidArgument);
}

TEST(ImageTensor, EqualsDiffusersBitForBit) {
  const std::vector<uint8_t> bytes = read_file(kGolden + "image_tensor.bin", 1 << 20);
  size_t at = 0;
  const std::vector<float> levels = take_floats(bytes, at, 256);
  Image image = make_image(16, 16, 3);
  for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = static_cast<uint8_t>(i / 3);
  const Tensor x = image_to_tensor(image);
  ASSERT_EQ(x.shape(), Shape({1, 16, 16, 3}));
  for (size_t i = 0; i < image.pixels.size(); ++i) EXPECT_EQ(x.values<float>()[i], levels[i / 3]);

  const std::vector<float> values = take_floats(bytes, at, 64 * 64 * 3);
  const Image expected = take_image(bytes, at, 64, 64, 3);
  const std::vector<Image> back = tensor_to_images(Tensor::from({1, 64, 64, 3}, values));
  ASSERT_EQ(back.size(), 1u);
  EXPECT_EQ(back[0].pixels, expected.pixels);
}

TEST(ImageTensor, KeepsEveryLevelBothWays) {
  Image image = make_image(256, 1, 3);
  for (size_t i = 0; i < image.pixels.size(); ++i)
    image.pixels[i] = static_cast<uint8_t>(i / 3 + 80 * (i % 3));
  EXPECT_EQ(tensor_to_images(image_to_tensor(image))[0].pixels, image.pixels);
}

TEST(ImageTensor, StacksPicturesOfOneSize) {
  std::vector<Image> images = {make_image(3, 2, 1), make_image(3, 2, 4)};
  images[1].pixels.assign(images[1].pixels.size(), 255);
  const Tensor x = images_to_tensor(images);
  ASSERT_EQ(x.shape(), Shape({2, 2, 3, 3}));
  EXPECT_EQ(x.values<float>()[0], -1.0f);
  EXPECT_EQ(x.values<float>()[18], 1.0f);
  EXPECT_EQ(tensor_to_images(x).size(), 2u);
  images.push_back(make_image(2, 3, 3));
  EXPECT_EQ(kind_of([&] { images_to_tensor(images); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([] { images_to_tensor({}); }), ErrorKind::InvalidArgument);
}

TEST(ImageTensor, RefusesWhatIsNoPicture) {
  EXPECT_EQ(kind_of([] { tensor_to_images(Tensor()); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([] { tensor_to_images(Tensor::empty({1, 4, 4, 4})); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([] { tensor_to_images(Tensor::empty({1, 0, 4, 3})); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([] {
              tensor_to_images(Tensor::empty({1, 4, 4, 3}, DType::F16));
            }),
            ErrorKind::InvalidArgument);
  std::vector<float> values(12, 0.5f);
  values[7] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(kind_of([&] { tensor_to_images(Tensor::from({1, 2, 2, 3}, values)); }), ErrorKind::Backend);
  values[7] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(tensor_to_images(Tensor::from({1, 2, 2, 3}, values))[0].pixels[7], 255);
}

TEST(Mask, LumaEqualsPillow) {
  const std::vector<uint8_t> bytes = read_file(kGolden + "luma.bin", 1 << 20);
  size_t at = 0;
  const Image rgb = take_image(bytes, at, 21, 17, 3);
  EXPECT_EQ(to_gray(rgb).pixels, take_image(bytes, at, 21, 17, 1).pixels);
}

TEST(Mask, BinarisesAtOneHalf) {
  Image gray = make_image(4, 1, 1);
  gray.pixels = {0, 127, 128, 255};
  const Tensor hard = mask_to_tensor(gray);
  ASSERT_EQ(hard.shape(), Shape({1, 1, 4, 1}));
  EXPECT_EQ(hard.to_vector<float>(), (std::vector<float>{0, 0, 1, 1}));
  EXPECT_EQ(mask_to_tensor(gray, false).to_vector<float>(),
            (std::vector<float>{0, 127 / 255.0f, 128 / 255.0f, 1}));
}

}  // namespace
}  // namespace sinopia
