#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sinopia/backend/cpu/winograd.cpp"
#include "sinopia/backend/cpu/winograd.h"

#include <algorithm>
#include <vector>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "sinopia/backend/cpu/gemm-inl.h"
#include "sinopia/backend/cpu/gemm_plan.h"
#include "sinopia/backend/cpu/math-inl.h"
#include "sinopia/backend/cpu/scratch.h"
#include "sinopia/backend/cpu/winograd-inl.h"
#include "sinopia/base/threads.h"
#include "sinopia/tensor/tensor.h"

HWY_BEFORE_NAMESPACE();
namespace sinopia {
namespace HWY_NAMESPACE {

/// What all tasks of one convolution know. kIn is the side of a tile's input.
template <int T>
struct Plan {
  static constexpr int kIn = T + 2, kPositions = kIn * kIn;
  const GemmProblem& p;
  const Patches& g;
  WinogradTiles tiles;

  explicit Plan(const GemmProblem& problem)
      : p(problem), g(*problem.patches), tiles(g, p.m / (g.out_height * g.out_width), T) {}
};

/// The transformed pixels of a register tile's worth of tiles, [first, first + kTileRows), as rows that the
/// products read front to back: v[position][packed rows], positions `stride` floats apart. Tiles past the
/// last repeat it.
template <int T>
void TransformInput(const Plan<T>& plan, int64_t first, const float* zeros, float* v, int64_t stride) {
  constexpr int kIn = T + 2;
  const Patches& g = plan.g;
  const int64_t C = g.channels;
  const float* pixels[kTileRows][kIn * kIn];
  for (int64_t t = 0; t < kTileRows; ++t) {
    const WinogradTiles::Place at = plan.tiles.place(std::min(first + t, plan.tiles.count - 1));
    for (int i = 0; i < kIn; ++i) {
      const int64_t iy = at.y + i - g.pad_top;
      for (int j = 0; j < kIn; ++j) {
        const int64_t ix = at.x + j - g.pad_left;
        const bool inside = iy >= 0 && iy < g.height && ix >= 0 && ix < g.width;
        pixels[t][i * kIn + j] = inside ? plan.p.x + ((at.image * g.height + iy) * g.width + ix) * C : zeros;
      }
    }
  }
  const auto transform = [&](auto d, int64_t t, int64_t c) HWY_ATTR {
    using V = hn::Vec<decltype(d)>;
    float* to = v + c / kRun * kTileRows * kRun + t * kRun + c % kRun;
    V half[kIn][kIn];  // columns done
#pragma GCC unroll 8
    for (int j = 0; j < kIn; ++j) {
      V x[kIn], out[kIn];
#pragma GCC unroll 8
      for (int i = 0; i < kIn; ++i) x[i] = hn::LoadU(d, pixels[t][i * kIn + j] + c);
      Axis<T>::Input(d, x, out);
#pragma GCC unroll 8
      for (int i = 0; i < kIn; ++i) half[i][j] = out[i];
    }
#pragma GCC unroll 8
    for (int i = 0; i < kIn; ++i) {
      V out[kIn];
      Axis<T>::Input(d, half[i], out);
#pragma GCC unroll 8
      for (int j = 0; j < kIn; ++j) hn::StoreU(out[j], d, to + (i * kIn + j) * stride);
    }
  };
  int64_t c = 0;
  for (; c + kRun <= C; c += kRun) {
    for (int64_t t = 0; t < kTileRows; ++t) transform(F32(), t, c);
  }
  for (; c < C; ++c) {
    for (int64_t t = 0; t < kTileRows; ++t) transform(hn::CappedTag<float, 1>(), t, c);
  }
}

/// Floats from one position of transformed weights to the next: not a power of two, which would crowd a few
/// sets of the cache.
int64_t WeightStride(int64_t channels) { return (channels + 1) * TileColumns(); }

/// u[position][channel][TileColumns()] of channels [channel, channel + count) and a panel of outputs, zeros
/// past the last output; positions WeightStride(count) apart. `taps` holds 9 * count * TileColumns() floats.
template <int T, class Stored>
void TransformWeights(const Plan<T>& plan, int64_t column, int64_t channel, int64_t count, float* taps,
                      float* u) {
  constexpr int kIn = T + 2;
  const int64_t C = plan.g.channels, width = TileColumns(), stride = WeightStride(count);
  const int64_t outputs = std::min(width, plan.p.n - column);
  static constexpr Stored kNoWeights[9 * kMaxBlockK] = {};
  const auto* w = static_cast<const Stored*>(plan.p.w);
  const Stored* rows[kMaxTileColumns];
  for (int64_t j = 0; j < width; ++j)
    rows[j] = j < outputs ? w + ((column + j) * C + channel) * 9 : kNoWeights;
  PackRows(rows, width, 9 * count, taps);
  const F32 d;
  using V = hn::Vec<F32>;
  for (int64_t k = 0; k < count; ++k, taps += 9 * width) {
    for (int64_t lane = 0; lane < width; lane += static_cast<int64_t>(hn::Lanes(d))) {
      V half[kIn][3];
#pragma GCC unroll 8
      for (int j = 0; j < 3; ++j) {
        V x[3], out[kIn];
#pragma GCC unroll 8
        for (int i = 0; i < 3; ++i) x[i] = hn::Load(d, taps + (i * 3 + j) * width + lane);
        Axis<T>::Weights(d, x, out);
#pragma GCC unroll 8
        for (int i = 0; i < kIn; ++i) half[i][j] = out[i];
      }
      float* to = u + k * width + lane;
#pragma GCC unroll 8
      for (int i = 0; i < kIn; ++i) {
        V out[kIn];
        Axis<T>::Weights(d, half[i], out);
#pragma GCC unroll 8
        for (int j = 0; j < kIn; ++j) hn::Store(out[j], d, to + (i * kIn + j) * stride);
      }
    }
  }
}

/// y at the outputs of tiles [first, first + count) and a panel of columns, from their products
/// m[position][tile][TileColumns()], positions `stride` floats apart.
template <int T>
void TransformOutput(const Plan<T>& plan, int64_t first, int64_t count, int64_t column, const float* m,
                     int64_t stride) {
  constexpr int kIn = T + 2;
  const F32 d;
  using V = hn::Vec<F32>;
  const GemmProblem& p = plan.p;
  const Patches& g = plan.g;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t width = TileColumns();
  for (int64_t t = 0; t < count; ++t) {
    const WinogradTiles::Place at = plan.tiles.place(first + t);
    const int64_t height_here = std::min<int64_t>(T, g.out_height - at.y);
    const int64_t width_here = std::min<int64_t>(T, g.out_width - at.x);
    for (int64_t j0 = 0; j0 < width && column + j0 < p.n; j0 += lanes) {
      const int64_t lanes_here = std::min(lanes, p.n - column - j0);
      const bool whole = lanes_here == lanes;
      const float* from = m + t * width + j0;
      V half[T][kIn], out[T][T];
#pragma GCC unroll 8
      for (int j = 0; j < kIn; ++j) {
        V x[kIn], y[T];
#pragma GCC unroll 8
        for (int i = 0; i < kIn; ++i) x[i] = hn::Load(d, from + (i * kIn + j) * stride);
        Axis<T>::Output(d, x, y);
#pragma GCC unroll 8
        for (int i = 0; i < T; ++i) half[i][j] = y[i];
      }
#pragma GCC unroll 8
      for (int i = 0; i < T; ++i) Axis<T>::Output(d, half[i], out[i]);
      HWY_ALIGN float part[HWY_MAX_BYTES / 4] = {};
      const auto load = [&](const float* row) HWY_ATTR {
        if (whole) return hn::LoadU(d, row);
        std::copy_n(row, lanes_here, part);
        return hn::Load(d, part);
      };
      const V bias = p.bias ? load(p.bias + column + j0) : hn::Zero(d);
      for (int64_t i = 0; i < height_here; ++i) {
        for (int64_t j = 0; j < width_here; ++j) {
          const int64_t row = (at.image * g.out_height + at.y + i) * g.out_width + at.x + j;
          V v = hn::Add(out[i][j], bias);
          if (p.add) v = hn::Add(v, load(p.add + row / p.rows_per_add * p.n + column + j0));
          v = Activate(d, p.activation, v);
          float* to = p.y + row * p.n + column + j0;
          if (whole) {
            hn::StoreU(v, d, to);
          } else {
            hn::Store(v, d, part);
            std::copy_n(part, lanes_here, to);
          }
        }
      }
    }
  }
}

/// How the channels are cut: the transformed weights of one position and piece stay in the L1 cache.
struct Pieces {
  int64_t channels, length, count;
  Pieces(int64_t C, int64_t longest)
      : channels(C),
        length(divide_up(divide_up(C, divide_up(C, longest)), kRun) * kRun),
        count(divide_up(C, length)) {}
  int64_t begin(int64_t i) const { return i * length; }
  int64_t size(int64_t i) const { return std::min(length, channels - i * length); }
};

/// One panel of outputs of `count` tiles from `first` on, whose transformed pixels are at v. The transformed
/// weights of the panel, piece after piece, are at `kept`, or are made here.
template <int T, class Stored>
void MultiplyTiles(const Plan<T>& plan, const Pieces& pieces, int64_t first, int64_t count, int64_t column,
                   const float* v, int64_t v_stride, const float* kept) {
  constexpr int kPositions = Plan<T>::kPositions;
  const int64_t width = TileColumns(), tile_size = packed_size<kTileRows>(plan.g.channels);
  const int64_t tiles = divide_up(count, kTileRows);
  const int64_t m_stride = (tiles * kTileRows + 1) * width;
  const int64_t u_size = kept ? 0 : kPositions * WeightStride(pieces.length);
  float* m = thread_scratch(kPositions * m_stride + u_size + 9 * pieces.length * width);
  float* scratch = m + kPositions * m_stride;
  for (int64_t i = 0; i < pieces.count; ++i) {
    const int64_t channels = pieces.size(i), u_stride = WeightStride(channels);
    const float* u = kept;
    if (kept) {
      kept += kPositions * u_stride;
    } else {
      TransformWeights<T, Stored>(plan, column, pieces.begin(i), channels, scratch + u_size, scratch);
      u = scratch;
    }
    const TileEnd end{.accumulate = i > 0};
    for (int position = 0; position < kPositions; ++position) {
      const float* from = v + position * v_stride + pieces.begin(i) * kTileRows;
      float* to = m + position * m_stride;
      for (int64_t r = 0; r < tiles; ++r, from += tile_size, to += kTileRows * width)
        MicroTile<kTileRows, kTileVectors>(packed_rows<kTileRows>(from), channels, u + position * u_stride,
                                           to, width, end, tile_size);
    }
  }
  TransformOutput<T>(plan, first, count, column, m, m_stride);
}

template <int T, class Stored>
void Convolve(const GemmProblem& p) {
  constexpr int kPositions = Plan<T>::kPositions;
  const Plan<T> plan(p);
  const int64_t C = plan.g.channels, width = TileColumns(), panels = divide_up(p.n, width);
  const int64_t u_panel = kPositions * (C + divide_up(C, kMaxBlockK)) * width;
  const bool keeps = keeps_weights(plan.tiles.count, u_panel * panels);
  const Pieces pieces(C, keeps ? kMaxBlockK : kPassingBlockK);
  Tensor weights;
  float* u = nullptr;
  if (keeps) {
    weights = Tensor::empty({u_panel * panels});
    u = static_cast<float*>(weights.storage()->data());
    parallel_for(panels, 1, [&](int64_t begin, int64_t end) {
      float* taps = thread_scratch(9 * pieces.length * width);
      for (int64_t panel = begin; panel < end; ++panel) {
        float* to = u + panel * u_panel;
        for (int64_t i = 0; i < pieces.count; ++i) {
          TransformWeights<T, Stored>(plan, panel * width, pieces.begin(i), pieces.size(i), taps, to);
          to += kPositions * WeightStride(pieces.size(i));
        }
      }
    });
  }
  // Groups of tiles, as many at once as the threads need.
  const int64_t groups_all = divide_up(plan.tiles.count, keeps ? kKeptTiles : kWinogradTiles);
  const int64_t group = divide_up(divide_up(plan.tiles.count, groups_all), kTileRows) * kTileRows;
  const int64_t groups = std::min(groups_all, divide_up(2 * int64_t{thread_count()}, panels));
  const int64_t chunk = group * groups;
  const int64_t tile_size = packed_size<kTileRows>(C);
  const int64_t v_stride = divide_up(std::min(chunk, plan.tiles.count), kTileRows) * tile_size + kRun;
  const Tensor transformed = Tensor::empty({kPositions * v_stride});
  float* v = static_cast<float*>(transformed.storage()->data());
  const std::vector<float> zeros(C);
  for (int64_t first = 0; first < plan.tiles.count; first += chunk) {
    const int64_t count = std::min(chunk, plan.tiles.count - first);
    parallel_for(divide_up(count, kTileRows), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        TransformInput<T>(plan, first + i * kTileRows, zeros.data(), v + i * tile_size, v_stride);
    });
    parallel_for(divide_up(count, group) * panels, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t from = i / panels * group, panel = i % panels;
        MultiplyTiles<T, Stored>(plan, pieces, first + from, std::min(group, count - from), panel * width,
                                 v + from / kTileRows * tile_size, v_stride,
                                 keeps ? u + panel * u_panel : nullptr);
      }
    });
  }
}

template <int T>
void ConvolveTyped(const GemmProblem& p) {
  switch (p.w_dtype) {
    case DType::F16:
      return Convolve<T, Half>(p);
    case DType::BF16:
      return Convolve<T, BFloat16>(p);
    default:
      return Convolve<T, float>(p);
  }
}

void Winograd2(const GemmProblem& p) { ConvolveTyped<2>(p); }
void Winograd4(const GemmProblem& p) { ConvolveTyped<4>(p); }

}  // namespace HWY_NAMESPACE
}  // namespace sinopia
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinopia {
namespace {

// In multiply-adds, from the times of 22 shapes on a Zen 3 with AVX2: what it takes to lay out a weight for
// the direct products, to transform one to one position, and to move one number of a tile to or from its
// transformed place. Products are computed for this many outputs at least.
constexpr double kLayoutCost = 90, kTransformCost = 10, kPixelCost = 50;
constexpr int64_t kCostColumns = 16;

}  // namespace

HWY_EXPORT(Winograd2);
HWY_EXPORT(Winograd4);

double winograd_cost(const GemmProblem& p, int tile) {
  const Patches& g = *p.patches;
  const int64_t positions = (tile + 2) * (tile + 2);
  const int64_t tiles = WinogradTiles(g, p.m / (g.out_height * g.out_width), tile).count;
  const int64_t outputs = divide_up(p.n, kCostColumns) * kCostColumns;
  const auto weights = static_cast<double>(g.channels * outputs), count = static_cast<double>(tiles);
  const bool keeps = keeps_weights(tiles, positions * g.channels * outputs);
  const auto transforms = static_cast<double>(keeps ? 1 : divide_up(tiles, kWinogradTiles));
  return static_cast<double>(positions) * (count * weights + transforms * kTransformCost * weights +
                                           count * kPixelCost * static_cast<double>(g.channels + outputs));
}

double direct_cost(const GemmProblem& p) {
  return static_cast<double>(p.k * p.n) * (static_cast<double>(p.m) + kLayoutCost);
}

void winograd(const GemmProblem& problem, int tile) {
  if (tile == 2) return HWY_DYNAMIC_DISPATCH(Winograd2)(problem);
  HWY_DYNAMIC_DISPATCH(Winograd4)(problem);
}

}  // namespace sinopia
#endif
