#pragma once

#include <optional>

#include "sinopia/models/vae/autoencoder.h"
#include "sinopia/pipelines/request.h"

namespace sinopia {

/// The picture to start from and what of it stays, as the networks take them.
struct InputPicture {
  std::optional<DiagonalGaussian> latent;         ///< of the picture
  Tensor mask;                                    ///< [1,h,w,1], 1 is painted anew; absent without one
  std::optional<DiagonalGaussian> masked_latent;  ///< of the picture with a hole, for UNets that take it
};

/// Resizes and encodes as diffusers' VaeImageProcessor and inpainting pipeline do: Lanczos, the mask
/// binarised at 0.5 and shrunk to latent cells by their first pixel, the hole 0 in [-1,1]. with_hole: also
/// the masked picture; a missing mask then covers all, and a missing picture does not matter. In
/// tiles of `tile` latent cells, unless it is 0. `precise`, if not null, takes over where the autoencoder's
/// numbers do not reach.
InputPicture encode_input(const Autoencoder& vae, const Autoencoder* precise,
                          const GenerationRequest& request, int width, int height, bool with_hole, int tile);

}  // namespace sinopia
