#include "sinopia/text/layout.h"

#include <algorithm>
#include <array>
#include <charconv>

#include <fmt/format.h>

#include "sinopia/base/error.h"

namespace sinopia {

void check(const LayoutBox& box) {
  SINOPIA_CHECK(!box.label.empty(), InvalidArgument, "[layout] a box needs a label");
  SINOPIA_CHECK(0 <= box.left && box.left < box.right && box.right <= 1 && 0 <= box.top &&
                    box.top < box.bottom && box.bottom <= 1,
                InvalidArgument,
                "[layout] expected 0 <= left < right <= 1 and 0 <= top < bottom <= 1, got left {}, top {}, "
                "right {}, bottom {}",
                box.left, box.top, box.right, box.bottom);
}

LayoutBox parse_layout_box(std::string_view text) {
  const auto refuse = [&] {
    fail(ErrorKind::InvalidArgument, "[layout] expected LABEL:LEFT,TOP,RIGHT,BOTTOM, got \"{}\"", text);
  };
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) refuse();
  std::array<double, 4> sides{};
  const char* at = text.data() + colon + 1;
  const char* const end = text.data() + text.size();
  for (size_t i = 0; i < sides.size(); ++i) {
    if (i > 0 && (at == end || *at++ != ',')) refuse();
    const auto read = std::from_chars(at, end, sides[i]);
    if (read.ec != std::errc()) refuse();
    at = read.ptr;
  }
  if (at != end) refuse();
  LayoutBox box{std::string(text.substr(0, colon)), sides[0], sides[1], sides[2], sides[3]};
  check(box);
  return box;
}

std::string layout_prompt(std::string_view prompt, std::span<const LayoutBox> boxes) {
  const auto hundredths = [](double share) { return std::clamp(static_cast<int>(share * 100), 0, 99); };
  std::string text(prompt);
  for (const LayoutBox& box : boxes)
    text +=
        fmt::format("{}{} {:02} {:02} {:02} {:02}", text.empty() ? "" : ", ", box.label, hundredths(box.left),
                    hundredths(box.top), hundredths(box.right), hundredths(box.bottom));
  return text;
}

}  // namespace sinopia
