#pragma once

#include <span>
#include <string_view>

#include "sinopia/io/image.h"

namespace sinopia {

struct Point {
  double x, y;
};

/// A rectangle of pixels, right and bottom excluded.
struct Box {
  int left, top, right, bottom;
};

/// A picture to draw charts on. Pixel (x, y) covers [x,x+1) x [y,y+1); y goes down. What lies outside is left
/// out. Opacities are in [0,1].
class Canvas {
 public:
  Canvas(int width, int height, Color background);

  void fill(Box box, Color color, double opacity = 1);
  /// A line through the points, `width` pixels wide, with smooth edges and round joints, within `clip`. Where
  /// it crosses itself it is no darker. A point that is not finite makes a gap; one between two gaps is a
  /// dot.
  void polyline(std::span<const Point> points, double width, Color color, double opacity, Box clip);
  /// ASCII in glyphs of 5 x 7 squares of `scale` pixels, one square apart; (x, y) is the upper left.
  void text(int x, int y, std::string_view text, int scale, Color color);
  static int text_width(std::string_view text, int scale);
  static int text_height(int scale) { return 7 * scale; }

  const Image& image() const { return image_; }

 private:
  void blend(int x, int y, Color color, double opacity);

  Image image_;
};

}  // namespace sinopia
