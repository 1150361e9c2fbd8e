#pragma once

#include <cstdint>
#include <vector>

#include "sinopia/io/image.h"
#include "sinopia/train/evaluation/colour_names.h"
#include "sinopia/train/evaluation/scene.h"

namespace sinopia {

/// What stands out from the background and hangs together.
struct Segment {
  PixelBox box;
  int area = 0;                ///< pixels
  double x = 0, y = 0;         ///< centroid in pixels
  std::vector<int> positions;  ///< y * width + x, each once
};

struct Segmentation {
  int width = 0, height = 0;
  std::vector<OkLab> pixels;  ///< [H,W]
  OkLab background{};
  std::vector<Segment> segments;  ///< the largest first; specks are dropped
};

/// The background is the median of the border, channel by channel; foreground is what lies further from it
/// than the border's own scatter allows. Specks below 0.1% of the picture are dropped. Any size of at least
/// 8x8.
Segmentation segment_picture(const Image& picture);

/// Both as one segment.
Segment joined(const Segment& a, const Segment& b);

/// Pixels between two boxes; 0 where they meet.
int gap(const PixelBox& a, const PixelBox& b);

}  // namespace sinopia
