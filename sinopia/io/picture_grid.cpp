#include "sinopia/io/picture_grid.h"

#include <algorithm>

#include "sinopia/base/error.h"

namespace sinopia {

Image picture_grid(std::span<const Image> pictures, int columns) {
  SINOPIA_CHECK(!pictures.empty() && columns > 0, InvalidArgument,
                "[grid] expected pictures and columns, got {} and {}", pictures.size(), columns);
  constexpr int kGap = 2;
  int width = 0, height = 0;
  for (const Image& picture : pictures) {
    width = std::max(width, picture.width);
    height = std::max(height, picture.height);
  }
  const auto count = static_cast<int>(pictures.size());
  columns = std::min(columns, count);
  const int rows = (count + columns - 1) / columns;
  Image grid = make_image(columns * (width + kGap) - kGap, rows * (height + kGap) - kGap, 3);
  std::ranges::fill(grid.pixels, uint8_t{255});
  for (int i = 0; i < count; ++i) {
    const Image rgb = to_rgb(pictures[static_cast<size_t>(i)]);
    for (int y = 0; y < rgb.height; ++y)
      std::copy_n(rgb.pixel(y, 0), rgb.width * 3,
                  grid.pixel(i / columns * (height + kGap) + y, i % columns * (width + kGap)));
  }
  return grid;
}

}  // namespace sinopia
