#pragma once

#include <vector>

#include "sinopia/text/layout.h"
#include "sinopia/train/data/picture_preparation.h"

namespace sinopia {

/// The boxes of a file's picture as prepare_picture made it: mirrored if it was, cut at the edges of the
/// crop, in shares of the crop's sides, in their order. A box of which less than `least_share` of the area is
/// left is left out, as is one of which nothing is left. `size` and `flipped` are those of the
/// PreparedPicture. Throws InvalidArgument for a share outside [0,1], an empty size, and a crop that its
/// picture does not hold.
std::vector<LayoutBox> prepared_boxes(const std::vector<LayoutBox>& boxes, const SizeConditioning& size,
                                      bool flipped, double least_share = 0);

}  // namespace sinopia
