#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

namespace sinopia {

/// The extents of a tensor, slowest first, at most kMaxRank of them, each >= 0. Rank 0 is a scalar.
class Shape {
 public:
  static constexpr int kMaxRank = 6;

  Shape() = default;
  /// Throws InvalidArgument for a negative extent, a rank above kMaxRank, or more than 2^62 elements.
  Shape(std::initializer_list<int64_t> dims) : Shape(std::span<const int64_t>(dims.begin(), dims.size())) {}
  explicit Shape(std::span<const int64_t> dims);

  int rank() const { return rank_; }
  /// Extent of an axis; negative axes count from the end. Throws InvalidArgument when out of range.
  int64_t dim(int axis) const;
  int64_t operator[](int axis) const { return dim(axis); }
  /// Number of elements; 1 for a scalar.
  int64_t numel() const { return numel_; }
  std::span<const int64_t> dims() const { return {dims_.data(), static_cast<size_t>(rank_)}; }

  /// A copy with one extent replaced.
  Shape with(int axis, int64_t extent) const;

  friend bool operator==(const Shape& a, const Shape& b);

 private:
  int index(int axis) const;
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
  int64_t numel_ = 1;
};

/// "[1,64,64,4]"
std::string to_string(const Shape& shape);

}  // namespace sinopia
