#include "sinopia/text/layout.h"

#include <gtest/gtest.h>

#include "tests/kind_of.h"

namespace sinopia {
namespace {

using testing::kind_of;

TEST(LayoutBox, IsReadFromText) {
  EXPECT_EQ(parse_layout_box("red apple:0.1,0.25,.5,1"), (LayoutBox{"red apple", 0.1, 0.25, 0.5, 1}));
  EXPECT_EQ(parse_layout_box("ratio 1:2:0,0,1,1"), (LayoutBox{"ratio 1:2", 0, 0, 1, 1}));
  for (const char* text : {"", "apple", "apple:", "apple:0,0,1", "apple:0,0,1,1,1", "apple:0,0,1,1 ",
                           "apple:0 0 1 1", "apple:0,0,1,x", ":0,0,1,1", "apple:0.5,0,0.5,1",
                           "apple:0,0.6,1,0.5", "apple:-0.1,0,1,1", "apple:0,0,1.1,1", "apple:nan,0,1,1"})
    EXPECT_EQ(kind_of([&] { parse_layout_box(text); }), ErrorKind::InvalidArgument) << text;
}

TEST(LayoutPrompt, SaysWhereThingsAre) {
  const LayoutBox boxes[] = {{"apple", 0.1, 0.205, 0.5, 1}, {"red car", 0, 0, 0.999, 0.09}};
  EXPECT_EQ(layout_prompt("two things", boxes), "two things, apple 10 20 50 99, red car 00 00 99 09");
  EXPECT_EQ(layout_prompt("", {boxes, 1}), "apple 10 20 50 99");
  EXPECT_EQ(layout_prompt("nothing", {}), "nothing");
}

}  // namespace
}  // namespace sinopia
