#include "sinopia/train/canvas.h"

#include <algorithm>
#include <cmath>

#include "sinopia/train/glyphs.h"

namespace sinopia {
namespace {

double distance(Point p, Point a, Point b) {
  const double dx = b.x - a.x, dy = b.y - a.y, length = dx * dx + dy * dy;
  const double along = length > 0 ? std::clamp(((p.x - a.x) * dx + (p.y - a.y) * dy) / length, 0.0, 1.0) : 0;
  return std::hypot(p.x - a.x - along * dx, p.y - a.y - along * dy);
}

Box intersection(Box a, Box b) {
  return {std::max(a.left, b.left), std::max(a.top, b.top), std::min(a.right, b.right),
          std::min(a.bottom, b.bottom)};
}

bool is_finite(Point p) { return std::isfinite(p.x) && std::isfinite(p.y); }

}  // namespace

Canvas::Canvas(int width, int height, Color background) : image_(make_image(width, height, 3)) {
  fill({0, 0, width, height}, background);
}

void Canvas::blend(int x, int y, Color color, double opacity) {
  uint8_t* pixel = image_.pixel(y, x);
  const auto mix = [&](uint8_t& old, uint8_t fresh) {
    old = static_cast<uint8_t>(std::lround(old + opacity * (fresh - old)));
  };
  mix(pixel[0], color.red);
  mix(pixel[1], color.green);
  mix(pixel[2], color.blue);
}

void Canvas::fill(Box box, Color color, double opacity) {
  box = intersection(box, {0, 0, image_.width, image_.height});
  for (int y = box.top; y < box.bottom; ++y) {
    for (int x = box.left; x < box.right; ++x) blend(x, y, color, opacity);
  }
}

void Canvas::polyline(std::span<const Point> points, double width, Color color, double opacity, Box clip) {
  clip = intersection(clip, {0, 0, image_.width, image_.height});
  if (clip.left >= clip.right || clip.top >= clip.bottom) return;
  const size_t columns = static_cast<size_t>(clip.right - clip.left);
  std::vector<float> coverage(columns * static_cast<size_t>(clip.bottom - clip.top));
  const double reach = width / 2 + 0.5;
  const auto segment = [&](Point a, Point b) {
    // Clamped as numbers, for a point may lie far outside.
    const auto from = [&](double v, int low, int high) {
      return static_cast<int>(
          std::clamp(std::floor(v - reach), static_cast<double>(low), static_cast<double>(high)));
    };
    const auto to = [&](double v, int low, int high) {
      return static_cast<int>(
          std::clamp(std::ceil(v + reach), static_cast<double>(low), static_cast<double>(high)));
    };
    const int left = from(std::min(a.x, b.x), clip.left, clip.right),
              right = to(std::max(a.x, b.x), clip.left, clip.right),
              top = from(std::min(a.y, b.y), clip.top, clip.bottom),
              bottom = to(std::max(a.y, b.y), clip.top, clip.bottom);
    for (int y = top; y < bottom; ++y) {
      for (int x = left; x < right; ++x) {
        const double covered = std::clamp(reach - distance({x + 0.5, y + 0.5}, a, b), 0.0, 1.0);
        float& most =
            coverage[static_cast<size_t>(y - clip.top) * columns + static_cast<size_t>(x - clip.left)];
        most = std::max(most, static_cast<float>(covered));
      }
    }
  };
  for (size_t i = 0; i < points.size(); ++i) {
    if (!is_finite(points[i])) continue;
    const bool before = i > 0 && is_finite(points[i - 1]);
    const bool after = i + 1 < points.size() && is_finite(points[i + 1]);
    if (before) segment(points[i - 1], points[i]);
    if (!before && !after) segment(points[i], points[i]);
  }
  for (int y = clip.top; y < clip.bottom; ++y) {
    for (int x = clip.left; x < clip.right; ++x) {
      const auto covered = static_cast<double>(
          coverage[static_cast<size_t>(y - clip.top) * columns + static_cast<size_t>(x - clip.left)]);
      if (covered > 0) blend(x, y, color, opacity * covered);
    }
  }
}

void Canvas::text(int x, int y, std::string_view text, int scale, Color color) {
  for (const char character : text) {
    const auto rows = glyph(character);
    for (int row = 0; row < 7; ++row) {
      for (int column = 0; column < 5; ++column) {
        if ((rows[static_cast<size_t>(row)] >> (4 - column) & 1) == 0) continue;
        const int left = x + column * scale, top = y + row * scale;
        fill({left, top, left + scale, top + scale}, color);
      }
    }
    x += 6 * scale;
  }
}

int Canvas::text_width(std::string_view text, int scale) {
  return text.empty() ? 0 : (6 * static_cast<int>(text.size()) - 1) * scale;
}

}  // namespace sinopia
