#pragma once

#include <span>

#include "sinopia/io/image.h"

namespace sinopia {

/// RGB pictures side by side, in rows of `columns`, white between them; cells are as large as the largest.
/// Throws InvalidArgument for no pictures or no columns.
Image picture_grid(std::span<const Image> pictures, int columns);

}  // namespace sinopia
