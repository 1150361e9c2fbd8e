#include "sinopia/train/evaluation/segmentation.h"

#include <algorithm>
#include <cmath>

#include "sinopia/base/error.h"

namespace sinopia {
namespace {

// An object's faint parts are this far from the background in OKLab; JPEG-like noise is not.
constexpr float kLeastContrast = 0.07F;
constexpr double kSpeck = 0.001;

float median(std::vector<float> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

std::vector<size_t> border_of(int width, int height) {
  std::vector<size_t> border;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      if (std::min({x, y, width - 1 - x, height - 1 - y}) < 2)
        border.push_back(static_cast<size_t>(y * width + x));
    }
  }
  return border;
}

Segment flood(std::vector<uint8_t>& open, int start, int width, int height) {
  Segment found;
  found.box = {width, height, 0, 0};
  found.positions.push_back(start);
  open[static_cast<size_t>(start)] = 0;
  for (size_t next = 0; next < found.positions.size(); ++next) {
    const int x = found.positions[next] % width, y = found.positions[next] / width;
    found.x += x;
    found.y += y;
    found.box = {std::min(found.box.left, x), std::min(found.box.top, y), std::max(found.box.right, x + 1),
                 std::max(found.box.bottom, y + 1)};
    for (int v = std::max(0, y - 1); v <= std::min(height - 1, y + 1); ++v) {
      for (int u = std::max(0, x - 1); u <= std::min(width - 1, x + 1); ++u) {
        if (open[static_cast<size_t>(v * width + u)] == 0) continue;
        open[static_cast<size_t>(v * width + u)] = 0;
        found.positions.push_back(v * width + u);
      }
    }
  }
  found.area = static_cast<int>(found.positions.size());
  found.x /= found.area;
  found.y /= found.area;
  return found;
}

}  // namespace

Segmentation segment_picture(const Image& picture) {
  SINOPIA_CHECK(picture.width >= 8 && picture.height >= 8, InvalidArgument,
                "[segment_picture] expected at least 8x8 pixels, got {}x{}", picture.width, picture.height);
  const Image rgb = to_rgb(picture);
  Segmentation result{rgb.width, rgb.height, {}, {}, {}};
  for (int y = 0; y < rgb.height; ++y) {
    for (int x = 0; x < rgb.width; ++x) {
      const uint8_t* p = rgb.pixel(y, x);
      result.pixels.push_back(to_oklab({p[0], p[1], p[2]}));
    }
  }
  const auto border = border_of(rgb.width, rgb.height);
  std::vector<float> values(border.size());
  for (size_t c = 0; c < 3; ++c) {
    for (size_t i = 0; i < border.size(); ++i) values[i] = result.pixels[border[i]][c];
    result.background[c] = median(values);
  }
  for (size_t i = 0; i < border.size(); ++i) {
    values[i] = std::sqrt(squared_distance(result.pixels[border[i]], result.background));
  }
  const float threshold = std::clamp(4 * median(values), kLeastContrast, 0.15F);
  std::vector<uint8_t> open;
  for (const OkLab& pixel : result.pixels) {
    open.push_back(squared_distance(pixel, result.background) > threshold * threshold ? 1 : 0);
  }
  for (size_t i = 0; i < open.size(); ++i) {
    if (open[i] == 0) continue;
    Segment found = flood(open, static_cast<int>(i), rgb.width, rgb.height);
    if (found.area >= kSpeck * rgb.width * rgb.height) result.segments.push_back(std::move(found));
  }
  std::stable_sort(result.segments.begin(), result.segments.end(),
                   [](const Segment& a, const Segment& b) { return a.area > b.area; });
  return result;
}

Segment joined(const Segment& a, const Segment& b) {
  Segment both = a;
  both.box = {std::min(a.box.left, b.box.left), std::min(a.box.top, b.box.top),
              std::max(a.box.right, b.box.right), std::max(a.box.bottom, b.box.bottom)};
  both.area = a.area + b.area;
  both.x = (a.x * a.area + b.x * b.area) / both.area;
  both.y = (a.y * a.area + b.y * b.area) / both.area;
  both.positions.insert(both.positions.end(), b.positions.begin(), b.positions.end());
  return both;
}

int gap(const PixelBox& a, const PixelBox& b) {
  return std::max({0, a.left - b.right, b.left - a.right, a.top - b.bottom, b.top - a.bottom});
}

}  // namespace sinopia
