#include "sinopia/train/data/layout_boxes.h"

#include <cmath>
#include <random>

#include <gtest/gtest.h>

#include "tests/kind_of.h"

namespace sinopia {
namespace {

using testing::kind_of;

void expect_near(const LayoutBox& a, const LayoutBox& b) {
  EXPECT_EQ(a.label, b.label);
  EXPECT_NEAR(a.left, b.left, 1e-12);
  EXPECT_NEAR(a.top, b.top, 1e-12);
  EXPECT_NEAR(a.right, b.right, 1e-12);
  EXPECT_NEAR(a.bottom, b.bottom, 1e-12);
}

TEST(LayoutBoxes, AreMirrored) {
  const SizeConditioning size{{10, 20}, 0, 0, {10, 20}, {10, 20}};
  const LayoutBox box{"a", 0.125, 0.25, 0.5, 0.75};
  const auto plain = prepared_boxes({box}, size, false);
  ASSERT_EQ(plain.size(), 1u);
  EXPECT_EQ(plain[0], box);
  const auto mirrored = prepared_boxes({box}, size, true);
  ASSERT_EQ(mirrored.size(), 1u);
  EXPECT_EQ(mirrored[0], (LayoutBox{"a", 0.5, 0.25, 0.875, 0.75}));
}

TEST(LayoutBoxes, AreCut) {
  // 10x20 covers 5x5 as 5x10; columns 2 to 7 are taken.
  const SizeConditioning size{{10, 20}, 0, 2, {5, 5}, {5, 10}};
  const std::vector<LayoutBox> boxes = {{"cut", 0.1, 0.2, 0.5, 1},    // columns 1 to 5
                                        {"beside", 0, 0, 0.2, 1},     // to 2: touches
                                        {"right", 0.65, 0, 1, 0.5}};  // 6.5 to 10
  const auto all = prepared_boxes(boxes, size, false);
  ASSERT_EQ(all.size(), 2u);
  expect_near(all[0], {"cut", 0, 0.2, 0.6, 1});
  expect_near(all[1], {"right", 0.9, 0, 1, 0.5});
  // A seventh of "right" is left.
  EXPECT_EQ(prepared_boxes(boxes, size, false, 0.14).size(), 2u);
  EXPECT_EQ(prepared_boxes(boxes, size, false, 0.15).size(), 1u);
  // Mirrored, they are at columns 5 to 9, 8 to 10 and 0 to 3.5.
  const auto mirrored = prepared_boxes(boxes, size, true);
  ASSERT_EQ(mirrored.size(), 2u);
  expect_near(mirrored[0], {"cut", 0.6, 0.2, 1, 1});
  expect_near(mirrored[1], {"right", 0, 0, 0.3, 0.5});
}

TEST(LayoutBoxes, StayOnWhatTheyShow) {
  // One bright rectangle in a black picture, scaled by 1: found again where its box says, in crops of all
  // rows and in smaller ones.
  std::mt19937 engine(7);
  PicturePreparation options;
  options.cropping = Cropping::Random;
  options.flip_probability = 0.5;
  constexpr int kHeight = 13, kWidth = 29;
  options.shorter_side = kHeight;
  int seen = 0, mirrored = 0;
  for (uint32_t step = 0; step < 120; ++step) {
    const int target = step % 2 == 0 ? kHeight : 9;
    const int left = static_cast<int>(engine() % 20), top = static_cast<int>(engine() % 9);
    const int right = left + 1 + static_cast<int>(engine() % 9),
              bottom = top + 1 + static_cast<int>(engine() % 4);
    Image image = make_image(kWidth, kHeight, 3);
    for (int y = top; y < bottom; ++y)
      for (int x = left; x < right; ++x)
        for (int c = 0; c < 3; ++c) image.pixel(y, x)[c] = 255;
    const PreparedPicture made = prepare_picture(image, {target, target}, options, true, 3, step);
    const double w = kWidth, h = kHeight;
    const auto boxes =
        prepared_boxes({{"b", left / w, top / h, right / w, bottom / h}}, made.size, made.flipped);
    int x0 = target, y0 = target, x1 = 0, y1 = 0;
    const auto x = made.x.values<float>();
    for (int i = 0; i < target * target; ++i) {
      if (x[static_cast<size_t>(3 * i)] < 0) continue;
      x0 = std::min(x0, i % target), x1 = std::max(x1, i % target + 1);
      y0 = std::min(y0, i / target), y1 = std::max(y1, i / target + 1);
    }
    // Rounding may leave a sliver of a box whose edge is that of the crop.
    if (x1 == 0) {
      for (const LayoutBox& b : boxes) EXPECT_LT(b.right - b.left, 1e-12);
      continue;
    }
    ++seen;
    mirrored += made.flipped;
    ASSERT_EQ(boxes.size(), 1u) << step;
    const double t = target;
    expect_near(boxes[0], {"b", x0 / t, y0 / t, x1 / t, y1 / t});
  }
  EXPECT_GT(seen, 20);
  EXPECT_GT(mirrored, 5);
  EXPECT_GT(seen - mirrored, 5);
}

TEST(LayoutBoxes, RefuseWhatDoesNotFit) {
  const std::vector<LayoutBox> boxes = {{"a", 0, 0, 1, 1}};
  for (const SizeConditioning& size :
       {SizeConditioning{{10, 20}, 0, 6, {5, 5}, {5, 10}}, SizeConditioning{{10, 20}, 1, 0, {5, 5}, {5, 10}},
        SizeConditioning{{10, 20}, 0, -1, {5, 5}, {5, 10}}, SizeConditioning{{10, 20}, 0, 0, {5, 5}, {}},
        SizeConditioning{{10, 20}, 0, 0, {}, {5, 10}}})
    EXPECT_EQ(kind_of([&] { prepared_boxes(boxes, size, false); }), ErrorKind::InvalidArgument);
  const SizeConditioning fits{{10, 20}, 0, 5, {5, 5}, {5, 10}};
  for (const double share : {-0.1, 1.1, std::nan("")})
    EXPECT_EQ(kind_of([&] { prepared_boxes(boxes, fits, false, share); }), ErrorKind::InvalidArgument);
}

}  // namespace
}  // namespace sinopia
