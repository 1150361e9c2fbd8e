#include "sinopia/tensor/shape.h"

#include <algorithm>

#include <fmt/ranges.h>

#include "sinopia/base/error.h"

namespace sinopia {

Shape::Shape(std::span<const int64_t> dims) {
  SINOPIA_CHECK(dims.size() <= kMaxRank, InvalidArgument, "[shape] expected at most {} axes, got {}",
                kMaxRank + 0, dims.size());
  // Zero extents are left out of the overflow check, so that it does not depend on where they stand.
  int64_t nonzero_product = 1;
  for (int64_t extent : dims) {
    SINOPIA_CHECK(extent >= 0, InvalidArgument, "[shape] expected extents >= 0, got [{}]",
                  fmt::join(dims, ","));
    SINOPIA_CHECK(extent == 0 || nonzero_product <= (int64_t{1} << 62) / extent, InvalidArgument,
                  "[shape] too many elements: [{}]", fmt::join(dims, ","));
    if (extent > 0) nonzero_product *= extent;
    dims_[static_cast<size_t>(rank_++)] = extent;
  }
  numel_ = std::find(dims.begin(), dims.end(), 0) == dims.end() ? nonzero_product : 0;
}

int Shape::index(int axis) const {
  const int i = axis < 0 ? axis + rank_ : axis;
  SINOPIA_CHECK(i >= 0 && i < rank_, InvalidArgument, "[shape] no axis {} in {}", axis, to_string(*this));
  return i;
}

int64_t Shape::dim(int axis) const { return dims_[static_cast<size_t>(index(axis))]; }

Shape Shape::with(int axis, int64_t extent) const {
  auto dims = dims_;
  dims[static_cast<size_t>(index(axis))] = extent;
  return Shape(std::span<const int64_t>(dims.data(), static_cast<size_t>(rank_)));
}

bool operator==(const Shape& a, const Shape& b) { return std::ranges::equal(a.dims(), b.dims()); }

std::string to_string(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape.dims(), ",")); }

}  // namespace sinopia
