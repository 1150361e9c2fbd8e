#pragma once

#include "sinopia/io/image.h"
#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// The part of a map that is looked at: its edges in shares of the map's sides, of the map mirrored left to
/// right if it is.
struct MapPart {
  double left = 0, top = 0, right = 1, bottom = 1;
  bool mirrored = false;
};

/// A semantic map, whose gray values are the numbers of classes, as a denoiser takes it (Rombach et al. 2022,
/// section 3.3): [height,width,classes] for latents of height x width cells, 1 in the channel of the class
/// that the map has in the middle of a cell, else 0. Throws InvalidArgument for a gray value that is no
/// class.
Tensor semantic_channels(const Image& map, const MapPart& part, int64_t height, int64_t width,
                         int64_t classes);

}  // namespace sinopia
