#pragma once

#include <cstdint>

#include "sinopia/tensor/tensor.h"
#include "sinopia/train/data/ranges.h"
#include "sinopia/train/draws.h"

namespace sinopia {

/// Masks for training to inpaint: everything (as Stable Diffusion's inpainting model saw a quarter of the
/// time), rectangles, or strokes of a round brush (Suvorov et al. 2022, LaMa). Lengths are shares of the
/// picture's sides, so that a mask looks alike at any size.
struct InpaintingMasks {
  double full_probability = 0.25;
  double rectangle_probability = 0.5;  ///< of rectangles, where it is not everything
  IntegerRange rectangles{1, 4};
  RealRange rectangle_side{0.1, 0.6};  ///< of each side by itself
  IntegerRange strokes{1, 5};
  IntegerRange stroke_lines{1, 8};   ///< straight pieces of a stroke
  RealRange line_length{0.05, 0.4};  ///< of the shorter side
  RealRange brush_width{0.03, 0.2};  ///< of the shorter side; at least a pixel and a half
  double max_turn = 1.6;             ///< from a line to the next, in radians
};

/// f32 [height,width,1]: 1 where the picture is to be painted anew, 0 elsewhere; at least one pixel is 1.
/// Throws InvalidArgument for options out of range and sides below 1.
Tensor draw_inpainting_mask(int64_t height, int64_t width, const InpaintingMasks& options, Draws draws);

/// Sets to 1 the pixels of mask [H,W,1] whose centre is within `radius` of the straight line between two
/// points. (0,0) is the upper left corner of the picture, (0.5,0.5) the centre of its first pixel.
void paint_line(Tensor& mask, double y0, double x0, double y1, double x1, double radius);

}  // namespace sinopia
