#include "sinopia/backend/conv2d_method.h"

#include <algorithm>
#include <atomic>

namespace sinopia {
namespace {

std::atomic<Conv2dMethod> chosen_method{Conv2dMethod::Auto};
std::array<std::atomic<int64_t>, kConv2dMethodNames.size()> counts{};

int64_t count_of(Conv2dMethod method) { return counts[static_cast<size_t>(method)]; }

}  // namespace

void set_conv2d_method(Conv2dMethod method) { chosen_method = method; }

Conv2dMethod conv2d_method() { return chosen_method; }

Conv2dMethod choose_conv2d_method(Conv2dMethod asked, const Conv2dCosts& costs) {
  if (asked == Conv2dMethod::Auto) asked = conv2d_method();
  if (asked != Conv2dMethod::Auto) return asked;
  if (costs.direct <= std::min(costs.winograd2, costs.winograd4)) return Conv2dMethod::Direct;
  return costs.winograd2 < costs.winograd4 ? Conv2dMethod::Winograd2 : Conv2dMethod::Winograd4;
}

Conv2dCounts conv2d_counts() {
  return {.direct = count_of(Conv2dMethod::Direct),
          .winograd2 = count_of(Conv2dMethod::Winograd2),
          .winograd4 = count_of(Conv2dMethod::Winograd4)};
}

void count_conv2d(Conv2dMethod method) { ++counts[static_cast<size_t>(method)]; }

}  // namespace sinopia
