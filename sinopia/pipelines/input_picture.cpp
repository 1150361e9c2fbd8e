#include "sinopia/pipelines/input_picture.h"

#include "sinopia/io/image_resize.h"
#include "sinopia/io/image_tensor.h"
#include "sinopia/models/vae/tiling.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/reduce.h"
#include "sinopia/ops/shape.h"
#include "sinopia/pipelines/memory_planning.h"

namespace sinopia {
namespace {

Tensor shrink_mask(const Tensor& mask, int64_t factor) {
  const int64_t W = mask.dim(2), h = mask.dim(1) / factor, w = W / factor;
  std::vector<float> cells;
  for (int64_t y = 0; y < h; ++y)
    for (int64_t x = 0; x < w; ++x) cells.push_back(mask.data<float>()[y * factor * W + x * factor]);
  return Tensor::from(Shape{1, h, w, 1}, cells);
}

bool is_finite(const DiagonalGaussian& latent) {
  return all_finite(latent.mean) && (latent.certain() || all_finite(latent.logvar));
}

DiagonalGaussian encode(const Autoencoder& vae, const Autoencoder* precise, const Tensor& picture,
                        const GenerationRequest& request, int tile) {
  SINOPIA_CHECK(!request.stop.stop_requested(), Cancelled, "[generation] stopped before encoding");
  const auto encode_with = [&](const Autoencoder& which) {
    return with_fitting_tiles(which.device(), request, tile, [&](int side) {
      return side > 0 ? encode_tiled(which, picture, tiles_of(side)) : which.encode(picture);
    });
  };
  DiagonalGaussian latent = encode_with(vae);
  if (precise && !is_finite(latent)) latent = encode_with(*precise);
  SINOPIA_CHECK(is_finite(latent), Backend,
                "[generation] the autoencoder made values that are not finite of the input picture");
  return latent;
}

}  // namespace

InputPicture encode_input(const Autoencoder& vae, const Autoencoder* precise,
                          const GenerationRequest& request, int width, int height, bool with_hole, int tile) {
  InputPicture input;
  Tensor picture, mask;
  if (request.init_image) {
    picture = image_to_tensor(resize(*request.init_image, width, height));
    input.latent = encode(vae, precise, picture, request, tile);
  }
  if (request.mask)
    mask = mask_to_tensor(resize(*request.mask, width, height));
  else if (with_hole)
    mask = full(Shape{1, height, width, 1}, 1);
  if (mask) input.mask = shrink_mask(mask, vae.config().factor());
  if (with_hole) {
    const Tensor hole = picture ? picture * (1.0 - mask) : zeros(Shape{1, height, width, 3});
    input.masked_latent = encode(vae, precise, hole, request, tile);
  }
  return input;
}

}  // namespace sinopia
