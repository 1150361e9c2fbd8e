#include "sinopia/pipelines/semantic_map.h"

#include <gtest/gtest.h>

#include "tests/kind_of.h"

namespace sinopia {
namespace {

using testing::kind_of;

int class_at(const Tensor& channels, int64_t y, int64_t x) {
  int found = -1;
  for (int64_t c = 0; c < channels.dim(2); ++c) {
    const float value = channels.data<float>()[(y * channels.dim(1) + x) * channels.dim(2) + c];
    if (value == 0) continue;
    EXPECT_EQ(value, 1);
    EXPECT_EQ(found, -1) << "two classes";
    found = static_cast<int>(c);
  }
  return found;
}

Image numbered(int width, int height, int channels) {
  Image map = make_image(width, height, channels);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < channels; ++c) map.pixel(y, x)[c] = static_cast<uint8_t>(y * width + x);
  return map;
}

TEST(SemanticChannels, TakeTheMiddleOfEachCell) {
  const Tensor same = semantic_channels(numbered(3, 2, 1), {}, 2, 3, 6);
  for (int64_t y = 0; y < 2; ++y)
    for (int64_t x = 0; x < 3; ++x) EXPECT_EQ(class_at(same, y, x), y * 3 + x);
  // Cells of 2 x 3 pixels of 6 x 6: the middle is at the lower right pixel of the middle ones.
  const Tensor fewer = semantic_channels(numbered(6, 6, 3), {}, 2, 3, 36);
  for (int64_t y = 0; y < 2; ++y)
    for (int64_t x = 0; x < 3; ++x) EXPECT_EQ(class_at(fewer, y, x), (3 * y + 1) * 6 + 2 * x + 1);
  const Tensor more = semantic_channels(numbered(2, 1, 1), {}, 3, 4, 2);
  for (int64_t y = 0; y < 3; ++y)
    for (int64_t x = 0; x < 4; ++x) EXPECT_EQ(class_at(more, y, x), x / 2);
}

TEST(SemanticChannels, CutAndMirror) {
  const Image map = numbered(8, 4, 1);
  // The mirrored map's columns 1 to 4 are columns 6 to 3.
  const Tensor part = semantic_channels(
      map, {.left = 1.0 / 8, .top = 0.25, .right = 5.0 / 8, .bottom = 0.75, .mirrored = true}, 2, 4, 32);
  for (int64_t y = 0; y < 2; ++y)
    for (int64_t x = 0; x < 4; ++x) EXPECT_EQ(class_at(part, y, x), (y + 1) * 8 + 6 - x);
}

TEST(SemanticChannels, RefuseWhatIsNoClass) {
  EXPECT_EQ(kind_of([] { semantic_channels(numbered(3, 2, 1), {}, 2, 3, 5); }), ErrorKind::InvalidArgument);
  Image colored = numbered(3, 2, 3);
  colored.pixel(1, 2)[2] = 0;
  EXPECT_EQ(kind_of([&] { semantic_channels(colored, {}, 2, 3, 6); }), ErrorKind::InvalidArgument);
}

}  // namespace
}  // namespace sinopia
