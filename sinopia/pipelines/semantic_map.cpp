#include "sinopia/pipelines/semantic_map.h"

#include <algorithm>

#include "sinopia/base/error.h"
#include "sinopia/ops/shape.h"

namespace sinopia {

Tensor semantic_channels(const Image& map, const MapPart& part, int64_t height, int64_t width,
                         int64_t classes) {
  Tensor result = zeros(Shape{height, width, classes});
  float* cell = result.data<float>();
  const auto pixel = [](double share, int count) {
    return std::clamp(static_cast<int>(share * count), 0, count - 1);
  };
  for (int64_t y = 0; y < height; ++y) {
    const double v = (static_cast<double>(y) + 0.5) / static_cast<double>(height);
    for (int64_t x = 0; x < width; ++x, cell += classes) {
      const double u = (static_cast<double>(x) + 0.5) / static_cast<double>(width);
      const double share = part.left + u * (part.right - part.left);
      const int row = pixel(part.top + v * (part.bottom - part.top), map.height);
      const int column = pixel(part.mirrored ? 1 - share : share, map.width);
      const uint8_t* const at = map.pixel(row, column);
      const int value = at[0];
      SINOPIA_CHECK(map.channels < 3 || (at[0] == at[1] && at[0] == at[2]), InvalidArgument,
                    "[semantic map] expected gray values that number the classes, got a color at row {}, "
                    "column {}",
                    row, column);
      SINOPIA_CHECK(value < classes, InvalidArgument,
                    "[semantic map] expected classes 0 to {}, got {} at row {}, column {}", classes - 1,
                    value, row, column);
      cell[value] = 1;
    }
  }
  return result;
}

}  // namespace sinopia
