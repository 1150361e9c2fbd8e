#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sinopia/backend/cpu/gemm.cpp"
#include "sinopia/backend/cpu/gemm.h"

#include <algorithm>
#include <vector>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "sinopia/backend/cpu/gemm-inl.h"
#include "sinopia/backend/cpu/gemm_plan.h"
#include "sinopia/backend/cpu/quantised.h"
#include "sinopia/backend/cpu/scratch.h"
#include "sinopia/base/threads.h"

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
      if (columns == kMaxTileColumns) {  // a loop whose length is known
        for (int64_t j = 0; j < kMaxTileColumns; ++j) panel[k * width + j] = to_float(from[j]);
        continue;
      }
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

/// The panel of columns [column, column + TileColumns()) of a picture's patches; pixels are its rows.
void PackPatches(const GemmProblem& p, const BlockK& block, int64_t column, float* HWY_RESTRICT panel) {
  struct Run {
    int64_t at, dy, dx, channel, count;
  };
  const Patches& g = *p.w_patches;
  const int64_t width = TileColumns(), end = std::min(column + width, p.n);
  Run runs[kMaxTileColumns];
  int count = 0;
  for (int64_t j = column; j < end; j += runs[count++].count) {
    const int64_t tap = j / g.channels, channel = j % g.channels;
    runs[count] = {j - column, tap / g.kernel_width, tap % g.kernel_width, channel,
                   std::min(g.channels - channel, end - j)};
  }
  std::fill_n(panel, block.size() * width, 0.0f);
  for (int64_t k = 0; k < block.size(); ++k, panel += width) {
    const Corner corner = corner_of(g, static_cast<const float*>(p.w), block.begin + k);
    for (int i = 0; i < count; ++i) {
      const Run& run = runs[i];
      const int64_t y = corner.y + run.dy, x = corner.x + run.dx;
      if (y < 0 || y >= g.height || x < 0 || x >= g.width) continue;
      const float* from = corner.image + (y * g.width + x) * g.channels + run.channel;
      for (int64_t c = 0; c < run.count; ++c) panel[run.at + c] = from[c];
    }
  }
}

struct Quantised {};  // in place of an element type

template <>
void PackWeights<Quantised>(const GemmProblem& p, const BlockK& block, int64_t column,
                            float* HWY_RESTRICT panel) {
  GemmProblem part;
  part.n = std::min(TileColumns(), p.n - column);
  part.k = block.size();
  float* wide = thread_scratch(part.n * part.k);
  for (int64_t j = 0; j < part.n; ++j) {
    const void* from = block_at(p.w, p.w_dtype, (column + j) * p.k + block.begin);
    dequantise(p.w_dtype, from, part.k, wide + j * part.k);
  }
  part.w = wide;
  PackWeights<float>(part, {0, part.k, 1}, 0, panel);
}

/// Asks for this tile's share of the next panel, so that it comes into the L2 cache while this one is in use.
HWY_INLINE void PrefetchShare(const float* panel, int64_t size, int64_t share, int64_t shares) {
  constexpr int64_t kLine = 16;
  const int64_t each = divide_up(size, shares * kLine) * kLine;
  for (int64_t i = share * each; i < std::min(size, (share + 1) * each); i += kLine) hwy::Prefetch(panel + i);
}

/// Rows [row0, row0 + rows) times panels [panel0, panel1), for the blocks [first, last) of K.
void MultiplyBlock(const GemmProblem& p, const std::vector<BlockK>& blocks, int64_t first, int64_t last,
                   const float* packed, const float* zeros, int64_t row0, int64_t rows, int64_t panel0,
                   int64_t panel1) {
  const int64_t width = TileColumns(), panels = divide_up(p.n, width);
  const int64_t tiles = divide_up(rows, kTileRows), step = tiles * kTileRows;
  RowPointers pointers(p, zeros, row0, rows, step);
  for (int64_t b = first; b < last; ++b) {
    const BlockK& block = blocks[b];
    const int64_t tile_size = packed_size<kTileRows>(block.size());
    float* left = thread_scratch(tiles * tile_size);
    if (p.x_is_km) {
      for (int64_t i = 0; i < tiles; ++i)
        PackTransposedTile<kTileRows>(p.x + block.begin * p.m + row0 + i * kTileRows, p.m, block.size(),
                                      rows - i * kTileRows, left + i * tile_size);
    } else {
      const float* const* runs = pointers.find(block);
      for (int64_t i = 0; i < tiles; ++i)
        PackTile<kTileRows>(runs + i * kTileRows, step, block.segments, block.length, left + i * tile_size);
    }
    const bool is_first = b == 0, is_last = b + 1 == static_cast<int64_t>(blocks.size());
    for (int64_t panel = panel0; panel < panel1; ++panel) {
      const int64_t size = width * block.size(), column = panel * width;
      const float* from = packed + panel * size;
      for (int64_t r = 0; r < rows; r += kTileRows) {
        if (panel + 1 < panel1) PrefetchShare(from + size, size, r / kTileRows, tiles);
        const TileRows x = packed_rows<kTileRows>(left + r / kTileRows * tile_size);
        EmitTile(p, row0 + r, std::min<int64_t>(kTileRows, rows - r), column, is_first, is_last,
                 [&](float* out, int64_t stride, const TileEnd& end) HWY_ATTR {
                   MicroTile<kTileRows, kTileVectors>(x, block.size(), from, out, stride, end);
                 });
      }
    }
    packed += panels * width * block.size();
  }
}

template <class T>
void MultiplyPacked(const GemmProblem& p) {
  const int64_t width = TileColumns(), panels = divide_up(p.n, width);
  const std::vector<BlockK> blocks =
      cut_k(p.k, p.patches ? p.patches->channels : p.k, std::max<int64_t>(8, block_elements(p.w_dtype)));
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

  // Enough tasks for the threads, evenly; if there are too few rows, the columns are cut too. No cut changes
  // a bit of the result.
  const int64_t threads = thread_count();
  const int64_t row_tasks = divide_up(divide_up(p.m, kBlockRows), threads) * threads;
  const int64_t block_rows = divide_up(divide_up(p.m, row_tasks), kTileRows) * kTileRows;
  const int64_t row_blocks = divide_up(p.m, block_rows);
  const int64_t column_cuts =
      std::clamp<int64_t>(divide_up(4 * threads, row_blocks), 1, divide_up(panels, 2));
  const int64_t cut_panels = divide_up(panels, column_cuts);

  for (int64_t first = 0; first < count; first += per_group) {
    const int64_t last = std::min(first + per_group, count);
    parallel_for((last - first) * panels, 4, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const BlockK& block = blocks[first + i / panels];
        const int64_t panel = i % panels;
        float* to =
            packed_data + (block.begin - blocks[first].begin) * panels * width + panel * width * block.size();
        if (p.w_patches) {
          PackPatches(p, block, panel * width, to);
        } else {
          PackWeights<T>(p, block, panel * width, to);
        }
      }
    });
    parallel_for(row_blocks * column_cuts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row0 = i / column_cuts * block_rows, rows = std::min(block_rows, p.m - row0);
        const int64_t panel0 = std::min(panels, i % column_cuts * cut_panels);
        const int64_t panel1 = std::min(panels, panel0 + cut_panels);
        MultiplyBlock(p, blocks, first, last, packed_data, zeros.data(), row0, rows, panel0, panel1);
      }
    });
  }
}

void Gemm(const GemmProblem& p) {
  switch (p.w_dtype) {
    case DType::F16:
      return MultiplyPacked<Half>(p);
    case DType::BF16:
      return MultiplyPacked<BFloat16>(p);
    case DType::F32:
      return MultiplyPacked<float>(p);
    default:
      return MultiplyPacked<Quantised>(p);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sinopia
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinopia {

HWY_EXPORT(Gemm);

void gemm(const GemmProblem& problem) {
  if (problem.m == 0 || problem.n == 0) return;
  if (is_narrow(problem)) return gemm_narrow(problem);
  HWY_DYNAMIC_DISPATCH(Gemm)(problem);
}

}  // namespace sinopia
#endif
