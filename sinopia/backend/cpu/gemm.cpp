#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sinopia/backend/cpu/gemm.cpp"
#include "sinopia/backend/cpu/gemm.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include <hwy/aligned_allocator.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "sinopia/backend/cpu/gemm-inl.h"
#include "sinopia/backend/cpu/math-inl.h"
#include "sinopia/base/threads.h"

#ifndef SINOPIA_BACKEND_CPU_GEMM_PLAN_
#define SINOPIA_BACKEND_CPU_GEMM_PLAN_
namespace sinopia {
namespace {

// A panel of kMaxBlockK rows stays in the L1 cache, a block of kBlockRows rows in L2, kPackedFloats in L3.
constexpr int64_t kMaxBlockK = 320;
constexpr int64_t kBlockRows = 96;
constexpr int64_t kPackedFloats = 1 << 20;
// Patches of pixels with fewer channels are copied together: runs that short would cost more than they hold.
constexpr int64_t kGatherChannels = 16;
constexpr int64_t kGatherK = 1024;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// The K axis, cut into blocks of `segments` runs; a run never crosses from one pixel of a patch into the
/// next.
struct BlockK {
  int64_t begin, length, segments;
  int64_t size() const { return length * segments; }
};

std::vector<BlockK> cut_k(int64_t K, int64_t channels) {
  std::vector<BlockK> blocks;
  const int64_t runs = channels > 0 ? K / channels : 0;
  if (channels > kMaxBlockK) {
    const int64_t pieces = divide_up(channels, kMaxBlockK);
    const int64_t piece = divide_up(divide_up(channels, pieces), 8) * 8;
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

Corner corner_of(const Patches& g, const float* x, int64_t row) {
  const int64_t pixels = g.out_height * g.out_width;
  const int64_t pixel = row % pixels;
  return {x + row / pixels * g.height * g.width * g.channels, pixel / g.out_width * g.stride - g.pad_top,
          pixel % g.out_width * g.stride - g.pad_left};
}

/// out [rows, K] = the patches of output pixels row0...
void gather_patches(const Patches& g, const float* x, int64_t row0, int64_t rows, float* out) {
  for (int64_t r = 0; r < rows; ++r) {
    const Corner c = corner_of(g, x, row0 + r);
    const int64_t first = std::clamp<int64_t>(-c.x, 0, g.kernel_width);
    const int64_t last = std::clamp<int64_t>(g.width - c.x, first, g.kernel_width);
    for (int64_t i = 0; i < g.kernel_height; ++i, out += g.kernel_width * g.channels) {
      const int64_t iy = c.y + i;
      if (iy < 0 || iy >= g.height) {
        std::fill_n(out, g.kernel_width * g.channels, 0.0f);
        continue;
      }
      std::fill_n(out, first * g.channels, 0.0f);
      std::copy_n(c.image + (iy * g.width + c.x + first) * g.channels, (last - first) * g.channels,
                  out + first * g.channels);
      std::fill_n(out + last * g.channels, (g.kernel_width - last) * g.channels, 0.0f);
    }
  }
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

}  // namespace
}  // namespace sinopia
#endif

HWY_BEFORE_NAMESPACE();
namespace sinopia {
namespace HWY_NAMESPACE {

/// The vector panel of columns [column, column + TileColumns()) of w, widened, zeros past the last column.
template <class T>
void PackWeights(const GemmProblem& p, const BlockK& block, int64_t column, float* HWY_RESTRICT panel) {
  const T* w = static_cast<const T*>(p.w);
  const int64_t width = TileColumns(), columns = std::min(width, p.n - column);
  if (p.w_is_kn) {
    for (int64_t k = 0; k < block.size(); ++k) {
      const T* from = w + (block.begin + k) * p.n + column;
      for (int64_t j = 0; j < columns; ++j) panel[k * width + j] = to_float(from[j]);
      for (int64_t j = columns; j < width; ++j) panel[k * width + j] = 0;
    }
    return;
  }
  static constexpr T kNoWeights[2 * kMaxBlockK] = {};
  const T* rows[kMaxTileColumns];
  for (int64_t j = 0; j < width; ++j)
    rows[j] = j < columns ? w + (column + j) * p.k + block.begin : kNoWeights;
  PackRows(rows, width, block.size(), panel);
}

/// Adds a tile of sums to y, and after the last block of K what follows the product.
HWY_INLINE void FinishTile(const GemmProblem& p, int64_t row0, int64_t rows, int64_t column,
                           const float* tile, bool first, bool last) {
  const F32 d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), width = TileColumns();
  const int64_t columns = std::min(width, p.n - column);
  HWY_ALIGN float part[kMaxTileColumns] = {}, bias_part[kMaxTileColumns] = {}, add_part[kMaxTileColumns] = {};
  const bool whole = columns == width;
  const float* bias = !p.bias ? nullptr : whole ? p.bias + column : bias_part;
  if (bias == bias_part) std::copy_n(p.bias + column, columns, bias_part);
  for (int64_t r = 0; r < rows; ++r) {
    float* y = p.y + (row0 + r) * p.n + column;
    float* out = whole ? y : part;
    if (!whole) std::copy_n(y, first ? 0 : columns, part);
    const float* add = p.add ? p.add + (row0 + r) / p.rows_per_add * p.n + column : nullptr;
    if (add && !whole) {
      std::copy_n(add, columns, add_part);
      add = add_part;
    }
    for (int64_t j = 0; j < width; j += lanes) {
      auto v = hn::Load(d, tile + r * width + j);
      if (!first) v = hn::Add(hn::LoadU(d, out + j), v);
      if (last) {
        if (p.alpha != 1) v = hn::Mul(v, hn::Set(d, p.alpha));
        if (bias) v = hn::Add(v, hn::LoadU(d, bias + j));
        if (add) v = hn::Add(v, hn::LoadU(d, add + j));
        v = Activate(d, p.activation, v);
      }
      hn::StoreU(v, d, out + j);
    }
    if (!whole) std::copy_n(part, columns, y);
  }
}

/// Rows [row0, row0 + rows) times panels [panel0, panel1), for the blocks [first, last) of K.
void MultiplyBlock(const GemmProblem& p, const std::vector<BlockK>& blocks, int64_t first, int64_t last,
                   const float* packed, const float* zeros, int64_t row0, int64_t rows, int64_t panel0,
                   int64_t panel1) {
  const int64_t width = TileColumns(), panels = divide_up(p.n, width);
  RowPointers pointers(p, zeros, row0, rows, divide_up(rows, kTileRows) * kTileRows);
  const int64_t step = divide_up(rows, kTileRows) * kTileRows;
  HWY_ALIGN float tile[kTileRows * kMaxTileColumns];
  const bool plain = p.alpha == 1 && !p.bias && !p.add && p.activation == Activation::None;
  for (int64_t b = first; b < last; ++b) {
    const BlockK& block = blocks[b];
    const float* const* runs = pointers.find(block);
    const bool is_first = b == 0, is_last = b + 1 == static_cast<int64_t>(blocks.size());
    for (int64_t panel = panel0; panel < panel1; ++panel) {
      const float* from = packed + panel * width * block.size();
      const int64_t column = panel * width;
      for (int64_t r = 0; r < rows; r += kTileRows) {
        if (rows - r >= kTileRows && column + width <= p.n && (plain || !is_last)) {
          MicroTile<kTileRows, kTileVectors>(runs + r, step, block.segments, block.length, from,
                                             p.y + (row0 + r) * p.n + column, p.n, !is_first);
        } else {
          MicroTile<kTileRows, kTileVectors>(runs + r, step, block.segments, block.length, from, tile, width,
                                             false);
          FinishTile(p, row0 + r, std::min<int64_t>(kTileRows, rows - r), column, tile, is_first, is_last);
        }
      }
    }
    packed += panels * width * block.size();
  }
}

template <class T>
void MultiplyPacked(const GemmProblem& p) {
  const int64_t width = TileColumns(), panels = divide_up(p.n, width);
  const bool gathers = p.patches && p.patches->channels < kGatherChannels && p.k <= kGatherK;
  const std::vector<BlockK> blocks = cut_k(p.k, p.patches && !gathers ? p.patches->channels : p.k);
  const auto count = static_cast<int64_t>(blocks.size());
  int64_t longest = 1, widest = 1;
  for (const BlockK& block : blocks) {
    longest = std::max(longest, block.length);
    widest = std::max(widest, block.size());
  }
  const std::vector<float> zeros(longest);
  const int64_t per_group = std::clamp<int64_t>(kPackedFloats / (panels * width * widest), 1, count);
  const Tensor packed = Tensor::empty({per_group * panels * width * widest});
  float* packed_data = static_cast<float*>(packed.storage()->data());

  const int64_t block_rows = divide_up(kBlockRows, kTileRows) * kTileRows;
  const int64_t row_blocks = divide_up(p.m, block_rows);
  // Few rows leave too few tasks; then the columns are cut too. Neither cut changes a bit of the result.
  const int64_t column_cuts =
      std::clamp<int64_t>(divide_up(4 * thread_count(), row_blocks), 1, divide_up(panels, 2));
  const int64_t cut_panels = divide_up(panels, column_cuts);

  for (int64_t first = 0; first < count; first += per_group) {
    const int64_t last = std::min(first + per_group, count);
    parallel_for((last - first) * panels, 4, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const BlockK& block = blocks[first + i / panels];
        const int64_t panel = i % panels;
        float* to =
            packed_data + (block.begin - blocks[first].begin) * panels * width + panel * width * block.size();
        PackWeights<T>(p, block, panel * width, to);
      }
    });
    parallel_for(row_blocks * column_cuts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row0 = i / column_cuts * block_rows, rows = std::min(block_rows, p.m - row0);
        const int64_t panel0 = std::min(panels, i % column_cuts * cut_panels);
        const int64_t panel1 = std::min(panels, panel0 + cut_panels);
        if (!gathers) {
          MultiplyBlock(p, blocks, first, last, packed_data, zeros.data(), row0, rows, panel0, panel1);
          continue;
        }
        const auto copied = hwy::AllocateAligned<float>(rows * p.k);
        gather_patches(*p.patches, p.x, row0, rows, copied.get());
        GemmProblem part = p;
        part.patches = nullptr;
        part.x = copied.get() - row0 * p.k;
        MultiplyBlock(part, blocks, first, last, packed_data, zeros.data(), row0, rows, panel0, panel1);
      }
    });
  }
}

void Gemm(const GemmProblem& p) {
  if (p.m == 0 || p.n == 0) return;
  switch (p.w_dtype) {
    case DType::F16:
      return MultiplyPacked<Half>(p);
    case DType::BF16:
      return MultiplyPacked<BFloat16>(p);
    default:
      return MultiplyPacked<float>(p);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sinopia
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinopia {

HWY_EXPORT(Gemm);

void gemm(const GemmProblem& problem) { HWY_DYNAMIC_DISPATCH(Gemm)(problem); }

}  // namespace sinopia
#endif
