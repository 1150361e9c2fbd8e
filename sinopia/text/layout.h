#pragma once

#include <span>
#include <string>
#include <string_view>

namespace sinopia {

/// Something that is seen in a picture, and where: shares of the picture's sides in [0,1] from its upper left
/// corner on, left < right and top < bottom.
struct LayoutBox {
  std::string label;
  double left = 0, top = 0, right = 1, bottom = 1;

  bool operator==(const LayoutBox&) const = default;
};

/// Throws InvalidArgument for sides out of order or outside of the picture, and for an empty label.
void check(const LayoutBox& box);

/// From "LABEL:LEFT,TOP,RIGHT,BOTTOM", as in "red apple:0.1,0.2,0.5,0.75". Throws InvalidArgument.
LayoutBox parse_layout_box(std::string_view text);

/// A prompt that says where things are, for models whose text encoder was trained on such prompts: behind the
/// prompt, for each box its label and its left, top, right and bottom edge in hundredths of the picture, two
/// digits each, as in "a red apple, apple 10 20 50 75".
std::string layout_prompt(std::string_view prompt, std::span<const LayoutBox> boxes);

}  // namespace sinopia
