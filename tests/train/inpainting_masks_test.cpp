#include "sinopia/train/data/inpainting_masks.h"

#include <cmath>

#include <gtest/gtest.h>

#include "tests/kind_of.h"
#include "tests/reference.h"

namespace sinopia {
namespace {

using testing::kind_of;
using testing::same_bits;

int64_t painted(const Tensor& mask) {
  int64_t count = 0;
  for (const float v : mask.values<float>()) {
    EXPECT_TRUE(v == 0 || v == 1) << v;
    count += v == 1;
  }
  return count;
}

double share_of(const Tensor& mask) {
  return static_cast<double>(painted(mask)) / static_cast<double>(mask.numel());
}

Tensor mask_of(int64_t height, int64_t width, const InpaintingMasks& options, uint32_t step) {
  return draw_inpainting_mask(height, width, options, Draws(1, Purpose::Mask, step));
}

TEST(InpaintingMasks, AreOfOnesAndZerosAndNeverEmpty) {
  for (const auto& [h, w] : {std::pair<int64_t, int64_t>{64, 64}, {33, 70}, {1, 1}, {1, 19}, {5, 3}}) {
    for (const double rectangles : {0.0, 1.0}) {
      InpaintingMasks options{.full_probability = 0, .rectangle_probability = rectangles};
      options.rectangle_side = {1e-6, 0.3};
      options.brush_width = {1e-6, 0.1};
      options.line_length = {1e-6, 0.4};
      for (uint32_t step = 0; step < 200; ++step) {
        const Tensor mask = mask_of(h, w, options, step);
        ASSERT_EQ(mask.shape(), Shape({h, w, 1}));
        ASSERT_GT(painted(mask), 0) << h << "x" << w << " " << step;
      }
    }
  }
}

TEST(InpaintingMasks, AreFullAsOftenAsAsked) {
  InpaintingMasks options{.full_probability = 0.25};
  options.rectangle_side = {0.1, 0.5};
  int full = 0;
  constexpr int kCount = 2000;
  for (uint32_t step = 0; step < kCount; ++step) full += share_of(mask_of(24, 31, options, step)) == 1;
  EXPECT_NEAR(full, kCount / 4, 5 * std::sqrt(kCount * 0.25 * 0.75));
}

// One rectangle: the rows and columns that it covers are runs, and all of them together the rectangle.
TEST(InpaintingMasks, RectanglesAreAsLargeAsAsked) {
  InpaintingMasks options{.full_probability = 0, .rectangle_probability = 1, .rectangles = {1, 1}};
  options.rectangle_side = {0.25, 0.75};
  int64_t least = 100, most = 0;
  for (uint32_t step = 0; step < 500; ++step) {
    const Tensor mask = mask_of(40, 80, options, step);
    int64_t top = 40, bottom = -1, left = 80, right = -1;
    for (int64_t i = 0; i < mask.numel(); ++i) {
      if (mask.data<float>()[i] == 0) continue;
      top = std::min(top, i / 80);
      bottom = std::max(bottom, i / 80);
      left = std::min(left, i % 80);
      right = std::max(right, i % 80);
    }
    const int64_t h = bottom - top + 1, w = right - left + 1;
    EXPECT_EQ(painted(mask), h * w);
    ASSERT_TRUE(h >= 10 && h <= 30 && w >= 20 && w <= 60) << h << "x" << w;
    least = std::min(least, h);
    most = std::max(most, h);
  }
  EXPECT_LE(least, 11);
  EXPECT_GE(most, 29);
}

// A long stroke with a round brush is a rectangle with half a disc at each end.
TEST(InpaintingMasks, ALineHasTheAreaOfARoundBrush) {
  for (const double angle : {0.1, 0.3, 1.1, 2.5}) {
    Tensor mask = Tensor::from({200, 220, 1}, std::vector<float>(200 * 220, 0.0f));
    constexpr double kRadius = 14.3, kLength = 90;
    const double dy = kLength / 2 * std::sin(angle), dx = kLength / 2 * std::cos(angle);
    paint_line(mask, 100 - dy, 110 - dx, 100 + dy, 110 + dx, kRadius);
    const double area = 2 * kRadius * kLength + M_PI * kRadius * kRadius;
    EXPECT_NEAR(static_cast<double>(painted(mask)), area, 0.01 * area);
    // And is the same when it is drawn backwards.
    Tensor back = Tensor::from({200, 220, 1}, std::vector<float>(200 * 220, 0.0f));
    paint_line(back, 100 + dy, 110 + dx, 100 - dy, 110 - dx, kRadius);
    EXPECT_NEAR(share_of(back), share_of(mask), 1e-4);
  }
  Tensor dot = Tensor::from({5, 5, 1}, std::vector<float>(25, 0.0f));
  paint_line(dot, 2.5, 2.5, 2.5, 2.5, 1);
  EXPECT_EQ(painted(dot), 5);
  paint_line(dot, -50, -50, -40, -60, 3);
  EXPECT_EQ(painted(dot), 5) << "outside";
}

TEST(InpaintingMasks, StrokesGrowWithTheBrush) {
  InpaintingMasks options{.full_probability = 0, .rectangle_probability = 0};
  double thin = 0, thick = 0;
  for (uint32_t step = 0; step < 100; ++step) {
    options.brush_width = {0.03, 0.05};
    thin += share_of(mask_of(64, 64, options, step));
    options.brush_width = {0.2, 0.3};
    thick += share_of(mask_of(64, 64, options, step));
  }
  EXPECT_GT(thick, 2 * thin);
  EXPECT_LT(thick, 100);
}

TEST(InpaintingMasks, DependOnTheirDrawsAloneAndLookAlikeAtAnySize) {
  const InpaintingMasks options{.full_probability = 0};
  EXPECT_TRUE(same_bits(mask_of(50, 60, options, 3), mask_of(50, 60, options, 3)));
  EXPECT_FALSE(same_bits(mask_of(50, 60, options, 3), mask_of(50, 60, options, 4)));
  double small = 0, large = 0;
  for (uint32_t step = 0; step < 300; ++step) {
    small += share_of(mask_of(64, 64, options, step)) / 300;
    large += share_of(mask_of(256, 256, options, step)) / 300;
  }
  EXPECT_NEAR(small, large, 0.06);
}

TEST(InpaintingMasks, RefuseWhatMakesNoSense) {
  const auto kind_for = [](const InpaintingMasks& options) {
    return kind_of([&] { mask_of(8, 8, options, 0); });
  };
  EXPECT_EQ(kind_for({.full_probability = 1.5}), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_for({.rectangle_probability = NAN}), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_for({.rectangles = {0, 2}}), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_for({.rectangle_side = {0.5, 0.4}}), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_for({.strokes = {3, 2}}), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_for({.line_length = {0, 1}}), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_for({.brush_width = {0.1, 2}}), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_for({.max_turn = -1}), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([] { mask_of(0, 8, {}, 0); }), ErrorKind::InvalidArgument);
}

}  // namespace
}  // namespace sinopia
