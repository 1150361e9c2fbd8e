#pragma once

#include <cstdint>

#include "sinopia/train/draws.h"

namespace sinopia {

struct IntegerRange {
  int64_t low = 0, high = 0;  ///< both included

  int64_t draw(Draws& draws) const { return low + draws.integer(high - low + 1); }
  bool is_within(int64_t least, int64_t most) const { return least <= low && low <= high && high <= most; }
};

struct RealRange {
  double low = 0, high = 0;

  double draw(Draws& draws) const { return low + (high - low) * draws.uniform(); }
  bool is_within(double least, double most) const { return least <= low && low <= high && high <= most; }
};

inline bool is_probability(double p) { return p >= 0 && p <= 1; }

}  // namespace sinopia
