#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "sinopia/backend/kernels.h"

namespace sinopia {

/// "auto", "direct", "winograd2" and "winograd4", in the order of Conv2dMethod.
inline constexpr std::array<std::string_view, 4> kConv2dMethodNames{"auto", "direct", "winograd2",
                                                                    "winograd4"};

/// What Conv2dMethod::Auto stands for in this process from now on; Auto is what is fastest for each shape.
void set_conv2d_method(Conv2dMethod method);
Conv2dMethod conv2d_method();

/// What a 3x3 convolution of stride 1, or its gradient, takes by each method, in one unit.
struct Conv2dCosts {
  double direct, winograd2, winograd4;
};

/// What was asked for; else what the process has set; else the cheapest.
Conv2dMethod choose_conv2d_method(Conv2dMethod asked, const Conv2dCosts& costs);

/// Convolutions with kernels larger than 1x1 that this process has run so far, by how. Thread-safe.
struct Conv2dCounts {
  int64_t direct = 0, winograd2 = 0, winograd4 = 0;
};
Conv2dCounts conv2d_counts();
void count_conv2d(Conv2dMethod method);

}  // namespace sinopia
