#pragma once

#include <functional>

#include "sinopia/models/taesd/tiny_decoder.h"
#include "sinopia/models/vae/autoencoder.h"

namespace sinopia {

/// Sizes in latent cells.
struct TilingOptions {
  int64_t tile = 64;     ///< side of a tile
  int64_t overlap = 16;  ///< over how many cells neighbours fade into each other; at most a third of a tile
  /// Called after each tile with how many are done of how many; may throw to cancel.
  std::function<void(int64_t done, int64_t count)> on_tile = nullptr;
};

/// Tiles of that side which overlap by a quarter of it.
inline TilingOptions tiles_of(int64_t side) { return {.tile = side, .overlap = side / 4}; }

/// As the decoders' decode and Autoencoder::encode, in memory that grows with the tile, not with the
/// picture. Tiles are spread evenly and cross-fade in the middle of where they overlap, so that their less
/// reliable borders are dropped and no edge shows. A picture of at most one tile is done whole. encode_tiled
/// needs sides that are multiples of the autoencoder's factor. Throws InvalidArgument for options out of
/// range.
Tensor decode_tiled(const Autoencoder& vae, const Tensor& z, const TilingOptions& options = {});
Tensor decode_tiled(const TinyDecoder& decoder, const Tensor& z, const TilingOptions& options = {});
DiagonalGaussian encode_tiled(const Autoencoder& vae, const Tensor& x, const TilingOptions& options = {});

}  // namespace sinopia
