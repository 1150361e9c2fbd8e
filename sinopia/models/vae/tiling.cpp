#include "sinopia/models/vae/tiling.h"

#include <algorithm>

#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/shape.h"

namespace sinopia {
namespace {

/// Where tiles start along one axis, so that they cover [0,length) with at least `overlap` shared cells.
std::vector<int64_t> tile_starts(int64_t length, const TilingOptions& options) {
  if (length <= options.tile) return {0};
  const int64_t stride = options.tile - options.overlap;
  const int64_t gaps = (length - options.tile + stride - 1) / stride;
  std::vector<int64_t> starts;
  for (int64_t i = 0; i <= gaps; ++i) starts.push_back(i * (length - options.tile) / gaps);
  return starts;
}

/// Joins neighbours along an axis. Piece i begins at starts[i] (output units) and fades into the next over
/// `fade` units in the middle of what both cover.
Tensor cross_fade(const std::vector<Tensor>& pieces, const std::vector<int64_t>& starts, int64_t fade,
                  int axis) {
  if (pieces.size() == 1) return pieces[0];
  std::vector<float> ramp(static_cast<size_t>(fade));
  for (int64_t i = 0; i < fade; ++i) {
    ramp[static_cast<size_t>(i)] = (static_cast<float>(i) + 0.5f) / static_cast<float>(fade);
  }
  const Tensor rising = Tensor::from(axis == 1 ? Shape{1, fade, 1, 1} : Shape{1, 1, fade, 1}, ramp);
  std::vector<Tensor> joined;
  int64_t from = 0;  // first unit of the output that is not in `joined` yet
  for (size_t i = 0; i < pieces.size(); ++i) {
    const int64_t end = starts[i] + pieces[i].dim(axis);
    if (i + 1 == pieces.size()) {
      joined.push_back(narrow(pieces[i], axis, from - starts[i], end - starts[i]));
      break;
    }
    const int64_t fade_begin = starts[i + 1] + (end - starts[i + 1] - fade) / 2;
    const int64_t fade_end = fade_begin + fade;
    joined.push_back(narrow(pieces[i], axis, from - starts[i], fade_begin - starts[i]));
    const Tensor a = narrow(pieces[i], axis, fade_begin - starts[i], fade_end - starts[i]);
    const Tensor b = narrow(pieces[i + 1], axis, fade_begin - starts[i + 1], fade_end - starts[i + 1]);
    joined.push_back(a + (b - a) * rising);
    from = fade_end;
  }
  return concat(joined, axis);
}

/// in_unit, out_unit: how many elements a latent cell is along each side, before and after `convert`.
template <class Convert>
Tensor tiled(const Tensor& x, int64_t in_unit, int64_t out_unit, const TilingOptions& options,
             const Convert& convert) {
  SINOPIA_CHECK(options.tile > 0 && options.overlap > 0 && 3 * options.overlap <= options.tile,
                InvalidArgument, "[tiling] expected 0 < overlap <= tile / 3, got tile {} and overlap {}",
                options.tile, options.overlap);
  const std::vector<int64_t> rows = tile_starts(x.dim(1) / in_unit, options);
  const std::vector<int64_t> columns = tile_starts(x.dim(2) / in_unit, options);
  const auto outwards = [out_unit](std::vector<int64_t> starts) {
    for (int64_t& s : starts) s *= out_unit;
    return starts;
  };
  const int64_t count = static_cast<int64_t>(rows.size() * columns.size());
  int64_t done = 0;
  std::vector<Tensor> strips;
  for (int64_t y : rows) {
    const int64_t bottom = std::min(x.dim(1), (y + options.tile) * in_unit);
    const Tensor strip = narrow(x, 1, y * in_unit, bottom);
    std::vector<Tensor> tiles;
    for (int64_t left : columns) {
      const int64_t right = std::min(x.dim(2), (left + options.tile) * in_unit);
      tiles.push_back(convert(narrow(strip, 2, left * in_unit, right)));
      if (options.on_tile) options.on_tile(++done, count);
    }
    strips.push_back(cross_fade(tiles, outwards(columns), options.overlap * out_unit, 2));
  }
  return cross_fade(strips, outwards(rows), options.overlap * out_unit, 1);
}

template <class Decoder>
Tensor decode_in_tiles(const Decoder& decoder, const Tensor& z, const TilingOptions& options) {
  SINOPIA_CHECK(z.rank() == 4, InvalidArgument, "[tiling] expected latents [N,h,w,C], got {}", describe(z));
  return tiled(z, 1, decoder.config().factor(), options,
               [&](const Tensor& tile) { return decoder.decode(tile); });
}

}  // namespace

Tensor decode_tiled(const Autoencoder& vae, const Tensor& z, const TilingOptions& options) {
  return decode_in_tiles(vae, z, options);
}

Tensor decode_tiled(const TinyDecoder& decoder, const Tensor& z, const TilingOptions& options) {
  return decode_in_tiles(decoder, z, options);
}

DiagonalGaussian encode_tiled(const Autoencoder& vae, const Tensor& x, const TilingOptions& options) {
  const int64_t factor = vae.config().factor();
  SINOPIA_CHECK(x.rank() == 4 && x.dim(1) % factor == 0 && x.dim(2) % factor == 0, InvalidArgument,
                "[tiling] expected a picture with sides that are multiples of {}, got {}", factor,
                describe(x));
  return vae.latents_of(
      tiled(x, factor, 1, options, [&](const Tensor& tile) { return vae.encode_moments(tile); }));
}

}  // namespace sinopia
