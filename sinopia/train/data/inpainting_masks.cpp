#include "sinopia/train/data/inpainting_masks.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "sinopia/base/error.h"

namespace sinopia {
namespace {

constexpr int64_t kMostPieces = 1000;
constexpr double kLeastShare = 1e-6;

void paint_rectangle(Tensor& mask, const RealRange& side, Draws& draws) {
  const int64_t H = mask.dim(0), W = mask.dim(1);
  const auto length = [&](int64_t whole) {
    const auto pixels = std::llround(side.draw(draws) * static_cast<double>(whole));
    return std::clamp<int64_t>(pixels, 1, whole);
  };
  const int64_t h = length(H), w = length(W);
  const int64_t top = draws.integer(H - h + 1), left = draws.integer(W - w + 1);
  for (int64_t y = top; y < top + h; ++y) std::fill_n(mask.data<float>() + y * W + left, w, 1.0f);
}

void paint_stroke(Tensor& mask, const InpaintingMasks& options, Draws& draws) {
  const auto H = static_cast<double>(mask.dim(0)), W = static_cast<double>(mask.dim(1));
  const double shorter = std::min(H, W);
  // A brush of this width meets the centre of a pixel wherever it is put.
  constexpr double kLeastWidth = 1.5;
  const double radius = std::max(options.brush_width.draw(draws) * shorter, kLeastWidth) / 2;
  double y = draws.uniform() * H, x = draws.uniform() * W;
  double angle = draws.uniform() * 2 * std::numbers::pi;
  for (int64_t lines = options.stroke_lines.draw(draws); lines > 0; --lines) {
    const double length = options.line_length.draw(draws) * shorter;
    const double to_y = std::clamp(y + length * std::sin(angle), 0.0, H);
    const double to_x = std::clamp(x + length * std::cos(angle), 0.0, W);
    paint_line(mask, y, x, to_y, to_x, radius);
    y = to_y;
    x = to_x;
    angle += (2 * draws.uniform() - 1) * options.max_turn;
  }
}

}  // namespace

void paint_line(Tensor& mask, double y0, double x0, double y1, double x1, double radius) {
  const int64_t H = mask.dim(0), W = mask.dim(1);
  const auto first = [&](double a, double b) {
    return std::max<int64_t>(static_cast<int64_t>(std::floor(std::min(a, b) - radius)), 0);
  };
  const auto end = [&](double a, double b, int64_t whole) {
    return std::min<int64_t>(static_cast<int64_t>(std::ceil(std::max(a, b) + radius)) + 1, whole);
  };
  const double dy = y1 - y0, dx = x1 - x0, squared_length = dy * dy + dx * dx;
  for (int64_t y = first(y0, y1); y < end(y0, y1, H); ++y) {
    for (int64_t x = first(x0, x1); x < end(x0, x1, W); ++x) {
      const double py = static_cast<double>(y) + 0.5 - y0, px = static_cast<double>(x) + 0.5 - x0;
      const double along = py * dy + px * dx;
      const double t = squared_length > 0 ? std::clamp(along / squared_length, 0.0, 1.0) : 0.0;
      const double ry = py - t * dy, rx = px - t * dx;
      if (ry * ry + rx * rx <= radius * radius) mask.data<float>()[y * W + x] = 1;
    }
  }
}

Tensor draw_inpainting_mask(int64_t height, int64_t width, const InpaintingMasks& options, Draws draws) {
  SINOPIA_CHECK(height >= 1 && width >= 1, InvalidArgument, "[mask] no mask of {}x{}", width, height);
  const bool counts = options.rectangles.is_within(1, kMostPieces) &&
                      options.strokes.is_within(1, kMostPieces) &&
                      options.stroke_lines.is_within(1, kMostPieces);
  const bool lengths = options.rectangle_side.is_within(kLeastShare, 1) &&
                       options.line_length.is_within(kLeastShare, 1) &&
                       options.brush_width.is_within(kLeastShare, 1);
  SINOPIA_CHECK(
      is_probability(options.full_probability) && is_probability(options.rectangle_probability) && counts &&
          lengths && options.max_turn >= 0,
      InvalidArgument,
      "[mask] expected probabilities in [0,1], counts from 1 to {}, lengths in (0,1], a turn from 0",
      kMostPieces + 0);
  Tensor mask = Tensor::empty({height, width, 1});
  const bool full = draws.chance(options.full_probability);
  std::fill_n(mask.data<float>(), mask.numel(), full ? 1.0f : 0.0f);
  if (full) return mask;
  if (draws.chance(options.rectangle_probability)) {
    for (int64_t i = options.rectangles.draw(draws); i > 0; --i)
      paint_rectangle(mask, options.rectangle_side, draws);
  } else {
    for (int64_t i = options.strokes.draw(draws); i > 0; --i) paint_stroke(mask, options, draws);
  }
  return mask;
}

}  // namespace sinopia
