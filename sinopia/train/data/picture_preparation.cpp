#include "sinopia/train/data/picture_preparation.h"

#include <algorithm>

#include "sinopia/base/error.h"
#include "sinopia/io/image_tensor.h"
#include "sinopia/train/draws.h"

namespace sinopia {
namespace {

Color draw_color(Draws draws) {
  const auto channel = [&] { return static_cast<uint8_t>(draws.integer(256)); };
  const uint8_t red = channel(), green = channel(), blue = channel();
  return {red, green, blue};
}

/// a * b / c, rounded half up.
int64_t scaled(int64_t a, int64_t b, int64_t c) { return (2 * a * b + c) / (2 * c); }

}  // namespace

std::array<float, SizeConditioning::kValues> SizeConditioning::values() const {
  return {static_cast<float>(original.height), static_cast<float>(original.width),
          static_cast<float>(crop_top),        static_cast<float>(crop_left),
          static_cast<float>(target.height),   static_cast<float>(target.width),
          static_cast<float>(resized.height),  static_cast<float>(resized.width)};
}

SizeConditioning SizeConditioning::from_values(const std::array<float, kValues>& values) {
  const auto at = [&](size_t i) { return static_cast<int>(values[i]); };
  return {.original = {at(0), at(1)},
          .crop_top = at(2),
          .crop_left = at(3),
          .target = {at(4), at(5)},
          .resized = {at(6), at(7)}};
}

PictureSize covering_size(PictureSize picture, PictureSize target) {
  SINOPIA_CHECK(picture.height > 0 && picture.width > 0 && target.height > 0 && target.width > 0,
                InvalidArgument, "[preparation] cannot cover {}x{} with {}x{}", target.width, target.height,
                picture.width, picture.height);
  const bool by_height = int64_t{target.height} * picture.width >= int64_t{target.width} * picture.height;
  const int64_t height = by_height ? target.height : scaled(picture.height, target.width, picture.width);
  const int64_t width = by_height ? scaled(picture.width, target.height, picture.height) : target.width;
  SINOPIA_CHECK(height * width <= kMaxImagePixels, InvalidArgument,
                "[preparation] a picture of {}x{} would have {}x{} pixels to cover {}x{}", picture.width,
                picture.height, width, height, target.width, target.height);
  return {static_cast<int>(height), static_cast<int>(width)};
}

Image flipped(const Image& image) {
  Image result = image;
  for (int y = 0; y < image.height; ++y) {
    for (int x = 0; x < image.width; ++x)
      std::copy_n(image.pixel(y, image.width - 1 - x), image.channels, result.pixel(y, x));
  }
  return result;
}

bool draws_flip(const PicturePreparation& options, bool mirror, uint64_t seed, uint32_t step,
                uint32_t index) {
  return mirror && Draws(seed, Purpose::Flip, step, index).chance(options.flip_probability);
}

PreparedPicture prepare_picture(const Image& picture, PictureSize target, const PicturePreparation& options,
                                bool mirror, uint64_t seed, uint32_t step, uint32_t index) {
  SINOPIA_CHECK(options.flip_probability >= 0 && options.flip_probability <= 1, InvalidArgument,
                "[preparation] expected a probability in [0,1], got {}", options.flip_probability);
  SINOPIA_CHECK(options.shorter_side >= 0, InvalidArgument,
                "[preparation] expected a shorter side from 0, got {}", options.shorter_side);
  SINOPIA_CHECK(target.height > 0 && target.width > 0, InvalidArgument,
                "[preparation] an empty crop of {}x{}", target.width, target.height);
  const PictureSize size = covering_size(
      {picture.height, picture.width},
      {std::max(target.height, options.shorter_side), std::max(target.width, options.shorter_side)});
  const Color background =
      options.background ? *options.background : draw_color(Draws(seed, Purpose::Background, step, index));
  Image image = resize(to_rgb(picture, background), size.width, size.height, options.resampling);

  PreparedPicture result;
  result.flipped = draws_flip(options, mirror, seed, step, index);
  if (result.flipped) image = flipped(image);

  const int spare_rows = size.height - target.height, spare_columns = size.width - target.width;
  int top = spare_rows / 2, left = spare_columns / 2;
  if (options.cropping == Cropping::Random) {
    Draws draws(seed, Purpose::Crop, step, index);
    top = static_cast<int>(draws.integer(spare_rows + 1));
    left = static_cast<int>(draws.integer(spare_columns + 1));
  }
  result.x = image_to_tensor(crop(image, left, top, target.width, target.height))
                 .reshape({target.height, target.width, 3});
  result.size = {{picture.height, picture.width}, top, left, target, size};
  return result;
}

}  // namespace sinopia
