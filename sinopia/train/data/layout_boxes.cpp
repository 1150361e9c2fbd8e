#include "sinopia/train/data/layout_boxes.h"

#include <algorithm>

#include "sinopia/base/error.h"

namespace sinopia {

std::vector<LayoutBox> prepared_boxes(const std::vector<LayoutBox>& boxes, const SizeConditioning& size,
                                      bool flipped, double least_share) {
  SINOPIA_CHECK(least_share >= 0 && least_share <= 1, InvalidArgument,
                "[layout] expected a share in [0,1], got {}", least_share);
  const PictureSize& whole = size.resized;
  SINOPIA_CHECK(size.target.height > 0 && size.target.width > 0, InvalidArgument, "[layout] an empty crop");
  SINOPIA_CHECK(
      size.crop_top >= 0 && size.crop_left >= 0 && size.crop_top <= whole.height - size.target.height &&
          size.crop_left <= whole.width - size.target.width,
      InvalidArgument, "[layout] a picture of {}x{} holds no crop of {}x{} at row {}, column {}", whole.width,
      whole.height, size.target.width, size.target.height, size.crop_top, size.crop_left);
  const auto row = [&](double share) { return (share * whole.height - size.crop_top) / size.target.height; };
  const auto column = [&](double share) {
    return ((flipped ? 1 - share : share) * whole.width - size.crop_left) / size.target.width;
  };
  std::vector<LayoutBox> result;
  for (const LayoutBox& box : boxes) {
    const LayoutBox moved{box.label, column(flipped ? box.right : box.left), row(box.top),
                          column(flipped ? box.left : box.right), row(box.bottom)};
    const LayoutBox cut{box.label, std::max(moved.left, 0.0), std::max(moved.top, 0.0),
                        std::min(moved.right, 1.0), std::min(moved.bottom, 1.0)};
    if (cut.left >= cut.right || cut.top >= cut.bottom) continue;
    const double area = (moved.right - moved.left) * (moved.bottom - moved.top);
    if ((cut.right - cut.left) * (cut.bottom - cut.top) >= least_share * area) result.push_back(cut);
  }
  return result;
}

}  // namespace sinopia
