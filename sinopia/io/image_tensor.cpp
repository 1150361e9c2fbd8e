#include "sinopia/io/image_tensor.h"

#include <algorithm>
#include <cmath>

#include "sinopia/base/error.h"

namespace sinopia {

Tensor image_to_tensor(const Image& image) { return images_to_tensor(std::span<const Image>(&image, 1)); }

Tensor images_to_tensor(std::span<const Image> images) {
  SINOPIA_CHECK(!images.empty(), InvalidArgument, "[image] expected at least one picture");
  const int H = images[0].height, W = images[0].width;
  Tensor x = Tensor::empty({static_cast<int64_t>(images.size()), H, W, 3});
  float* to = x.data<float>();
  for (const Image& image : images) {
    SINOPIA_CHECK(image.height == H && image.width == W, InvalidArgument,
                  "[image] expected pictures of one size, got {}x{} and {}x{}", W, H, image.width,
                  image.height);
    for (const uint8_t p : without_alpha(image).pixels)
      *to++ = 2.0f * (static_cast<float>(p) / 255.0f) - 1.0f;
  }
  return x;
}

std::vector<Image> tensor_to_images(const Tensor& x) {
  SINOPIA_CHECK(
      x.defined() && x.dtype() == DType::F32 && x.device().is_cpu() && x.rank() == 4 && x.dim(3) == 3,
      InvalidArgument, "[image] expected f32 [N,H,W,3] on the CPU, got {}", describe(x));
  SINOPIA_CHECK(x.dim(1) * x.dim(2) > 0 && x.dim(1) <= kMaxImagePixels / x.dim(2), InvalidArgument,
                "[image] no picture of {}x{}", x.dim(2), x.dim(1));
  const float* from = x.data<float>();
  std::vector<Image> images;
  for (int64_t n = 0; n < x.dim(0); ++n) {
    Image& image = images.emplace_back(make_image(static_cast<int>(x.dim(2)), static_cast<int>(x.dim(1)), 3));
    for (uint8_t& p : image.pixels) {
      const float value = *from++;
      SINOPIA_CHECK(!std::isnan(value), Backend, "[image] picture {} holds a value that is not a number", n);
      const float unit = std::clamp(value * 0.5f + 0.5f, 0.0f, 1.0f);
      p = static_cast<uint8_t>(std::nearbyint(unit * 255.0f));
    }
  }
  return images;
}

Tensor mask_to_tensor(const Image& mask, bool binarize) {
  const Image gray = to_gray(mask);
  Tensor x = Tensor::empty({1, gray.height, gray.width, 1});
  std::ranges::transform(gray.pixels, x.data<float>(), [&](uint8_t p) {
    const float value = static_cast<float>(p) / 255.0f;
    return binarize ? (value < 0.5f ? 0.0f : 1.0f) : value;
  });
  return x;
}

}  // namespace sinopia
