#pragma once

#include <algorithm>
#include <vector>

#include "sinopia/backend/cpu/gemm.h"

namespace sinopia {

// A panel of kMaxBlockK rows stays in the L1 cache, a block of kBlockRows rows in L2, kPackedFloats in L3.
inline constexpr int64_t kMaxBlockK = 320;
inline constexpr int64_t kBlockRows = 192;
inline constexpr int64_t kPackedFloats = 1 << 20;

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// The K axis, cut into blocks of `segments` runs; a run never crosses from one pixel of a patch into the
/// next.
struct BlockK {
  int64_t begin, length, segments;
  int64_t size() const { return length * segments; }
};

/// Cuts within a run are at multiples of `unit`, at most kMaxBlockK.
inline std::vector<BlockK> cut_k(int64_t K, int64_t channels, int64_t unit = 8) {
  std::vector<BlockK> blocks;
  const int64_t runs = channels > 0 ? K / channels : 0;
  if (channels > kMaxBlockK) {
    const int64_t pieces = divide_up(channels, kMaxBlockK / unit * unit);
    const int64_t piece = divide_up(divide_up(channels, pieces), unit) * unit;
    for (int64_t run = 0; run < runs; ++run) {
      for (int64_t c = 0; c < channels; c += piece)
        blocks.push_back({run * channels + c, std::min(piece, channels - c), 1});
    }
  } else if (runs > 0) {
    const int64_t count = divide_up(runs, kMaxBlockK / channels);
    const int64_t per_block = divide_up(runs, count);
    for (int64_t run = 0; run < runs; run += per_block)
      blocks.push_back({run * channels, channels, std::min(per_block, runs - run)});
  }
  if (blocks.empty()) blocks.push_back({0, 0, 0});
  return blocks;
}

/// Where the kernel's corner of output pixel `row` lies in x.
struct Corner {
  const float* image;
  int64_t y, x;
};

inline Corner corner_of(const Patches& g, const float* x, int64_t row) {
  const int64_t pixels = g.out_height * g.out_width;
  const int64_t pixel = row % pixels;
  return {x + row / pixels * g.height * g.width * g.channels, pixel / g.out_width * g.stride - g.pad_top,
          pixel % g.out_width * g.stride - g.pad_left};
}

/// Finds the runs of K that the rows of one task need.
class RowPointers {
 public:
  /// `zeros` holds at least as many zeros as the longest run.
  RowPointers(const GemmProblem& p, const float* zeros, int64_t row0, int64_t rows, int64_t step)
      : p_(p), zeros_(zeros), row0_(row0), rows_(rows), step_(step) {
    if (!p.patches) return;
    corners_.resize(rows);
    for (int64_t r = 0; r < rows; ++r) corners_[r] = corner_of(*p.patches, p.x, row0 + r);
  }

  /// Entry s * step + r is run s of row r; rows past the last repeat it.
  const float* const* find(const BlockK& block) {
    pointers_.resize(std::max<int64_t>(1, block.segments) * step_);
    for (int64_t s = 0; s < block.segments; ++s) {
      const float** out = pointers_.data() + s * step_;
      const int64_t k = block.begin + s * block.length;
      if (p_.patches) {
        const Patches& g = *p_.patches;
        const int64_t tap = k / g.channels, channel = k % g.channels;
        const int64_t dy = tap / g.kernel_width, dx = tap % g.kernel_width;
        for (int64_t r = 0; r < rows_; ++r) {
          const Corner& c = corners_[r];
          const int64_t iy = c.y + dy, ix = c.x + dx;
          const bool inside = iy >= 0 && iy < g.height && ix >= 0 && ix < g.width;
          out[r] = inside ? c.image + (iy * g.width + ix) * g.channels + channel : zeros_;
        }
      } else {
        for (int64_t r = 0; r < rows_; ++r) out[r] = p_.x + (row0_ + r) * p_.k + k;
      }
      for (int64_t r = rows_; r < step_; ++r) out[r] = out[rows_ - 1];
    }
    return pointers_.data();
  }

 private:
  const GemmProblem& p_;
  const float* zeros_;
  int64_t row0_, rows_, step_;
  std::vector<Corner> corners_;
  std::vector<const float*> pointers_;
};

}  // namespace sinopia
