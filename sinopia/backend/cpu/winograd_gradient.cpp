#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sinopia/backend/cpu/winograd_gradient.cpp"
#include "sinopia/backend/cpu/winograd_gradient.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "sinopia/backend/cpu/gemm-inl.h"
#include "sinopia/backend/cpu/gemm_plan.h"
#include "sinopia/backend/cpu/math-inl.h"
#include "sinopia/backend/cpu/winograd-inl.h"
#include "sinopia/backend/cpu/winograd.h"
#include "sinopia/base/threads.h"
#include "sinopia/tensor/tensor.h"

HWY_BEFORE_NAMESPACE();
namespace sinopia {
namespace HWY_NAMESPACE {

// The register tile: rows of outputs by three vectors of inputs. Rows divide a vector, so that a vector of
// transformed outputs falls into whole tiles.
inline constexpr int kGradientRows = kWideTileRows, kGradientVectors = 3;

// A group's part of a panel stays in the L1 cache; the accumulators of all positions in memory that is
// bounded.
inline constexpr int64_t kGroupTiles = 128, kMostAccumulators = 16 << 20;

/// Sizes of one gradient, and where its tiles lie.
template <int T>
struct GradientPlan {
  static constexpr int kIn = T + 2, kPositions = kIn * kIn;
  const WeightGradientProblem& p;
  const Patches& g;
  WinogradTiles tiles;
  int64_t width, panels;            // of inputs: channels of a panel, panels
  int64_t blocks, block_of_blocks;  // of outputs: register tiles in all, and those accumulated at a time

  explicit GradientPlan(const WeightGradientProblem& problem)
      : p(problem),
        g(problem.patches),
        tiles(g, problem.images, T),
        width(kGradientVectors * static_cast<int64_t>(hn::Lanes(F32()))),
        panels(divide_up(g.channels, width)),
        blocks(divide_up(problem.outputs, kGradientRows)),
        block_of_blocks(std::clamp<int64_t>(kMostAccumulators / (kPositions * panels * width * kGradientRows),
                                            1, blocks)) {}

  int64_t accumulators_of_block() const { return panels * width * kGradientRows; }
};

/// The kSide x kSide pixels of [images,H,W,C] from (y,x) on, `zeros` outside of the picture.
template <int kSide>
void FindPixels(const float* from, int64_t image, int64_t height, int64_t width, int64_t channels, int64_t y,
                int64_t x, const float* zeros, const float** pixels) {
  for (int i = 0; i < kSide; ++i) {
    for (int j = 0; j < kSide; ++j) {
      const bool inside = y + i >= 0 && y + i < height && x + j >= 0 && x + j < width;
      pixels[i * kSide + j] = inside ? from + ((image * height + y + i) * width + x + j) * channels : zeros;
    }
  }
}

/// One transform along both axes of the pixels, kSide x kSide to kIn x kIn, for each channel;
/// store(d, position, channel, value) takes them.
template <int kSide, int kIn, class Transform, class Store>
HWY_INLINE void TransformPixels(const float* const* pixels, int64_t channels, const Transform& transform,
                                const Store& store) {
  const auto at = [&](auto d, int64_t c) HWY_ATTR {
    using V = hn::Vec<decltype(d)>;
    V half[kIn][kSide];  // columns done
#pragma GCC unroll 8
    for (int j = 0; j < kSide; ++j) {
      V x[kSide], out[kIn];
#pragma GCC unroll 8
      for (int i = 0; i < kSide; ++i) x[i] = hn::LoadU(d, pixels[i * kSide + j] + c);
      transform(d, x, out);
#pragma GCC unroll 8
      for (int i = 0; i < kIn; ++i) half[i][j] = out[i];
    }
#pragma GCC unroll 8
    for (int i = 0; i < kIn; ++i) {
      V out[kIn];
      transform(d, half[i], out);
#pragma GCC unroll 8
      for (int j = 0; j < kIn; ++j) store(d, i * kIn + j, c, out[j]);
    }
  };
  const auto lanes = static_cast<int64_t>(hn::Lanes(F32()));
  int64_t c = 0;
  for (; c + lanes <= channels; c += lanes) at(F32(), c);
  for (; c < channels; ++c) at(hn::CappedTag<float, 1>(), c);
}

/// Tile `t` of a group of `count`: its transformed inputs to u[position][panel][t][width].
template <int T>
void TransformX(const GradientPlan<T>& plan, int64_t index, int64_t t, int64_t count, const float* zeros,
                float* u) {
  constexpr int kIn = T + 2;
  const Patches& g = plan.g;
  const WinogradTiles::Place at = plan.tiles.place(index);
  const float* pixels[kIn * kIn];
  FindPixels<kIn>(plan.p.x, at.image, g.height, g.width, g.channels, at.y - g.pad_top, at.x - g.pad_left,
                  zeros, pixels);
  const int64_t panel_size = count * plan.width, position_size = plan.panels * panel_size;
  TransformPixels<kIn, kIn>(
      pixels, g.channels, [](auto d, const auto* x, auto* v) HWY_ATTR { Axis<T>::Input(d, x, v); },
      [&](auto d, int position, int64_t c, auto value) HWY_ATTR {
        hn::StoreU(
            value, d,
            u + position * position_size + c / plan.width * panel_size + t * plan.width + c % plan.width);
      });
}

/// Its transformed outputs to v[position][block][t][kGradientRows].
template <int T>
void TransformDy(const GradientPlan<T>& plan, int64_t index, int64_t t, int64_t count, const float* zeros,
                 float* v) {
  constexpr int kIn = T + 2;
  const Patches& g = plan.g;
  const WinogradTiles::Place at = plan.tiles.place(index);
  const float* pixels[T * T];
  FindPixels<T>(plan.p.dy, at.image, g.out_height, g.out_width, plan.p.outputs, at.y, at.x, zeros, pixels);
  const int64_t block_size = count * kGradientRows, position_size = plan.blocks * block_size;
  TransformPixels<T, kIn>(
      pixels, plan.p.outputs, [](auto d, const auto* x, auto* m) HWY_ATTR { Axis<T>::OutputBack(d, x, m); },
      [&](auto d, int position, int64_t c, auto value) HWY_ATTR {
        float* to = v + position * position_size + c / kGradientRows * block_size + t * kGradientRows;
        if constexpr (hn::MaxLanes(d) == 1) {
          to[c % kGradientRows] = hn::GetLane(value);
        } else {
          HWY_ALIGN float part[HWY_MAX_BYTES / 4];
          hn::Store(value, d, part);
          for (size_t i = 0; i < hn::Lanes(d); i += kGradientRows, to += block_size)
            std::memcpy(to, part + i, kGradientRows * sizeof(float));
        }
      });
}

/// m[kGradientRows][width] += the sum over `count` tiles of left[t][kGradientRows] times panel[t][width].
HWY_INLINE void AddProducts(const float* left, const float* panel, int64_t count, int64_t width, float* m) {
  TileSums<kGradientRows, kGradientVectors> sums;
  sums.begin(m, width);
  for (int64_t t = 0; t < count; ++t)  // element t of row i lies at left[t * kGradientRows + i]
    sums.multiply(left + t * (kGradientRows - 1), 1, t, panel);
  sums.finish(m, width, {.accumulate = true});
}

/// dw of a block's outputs and a panel's inputs from m[position], `stride` floats apart.
template <int T>
void FinishBlock(const GradientPlan<T>& plan, int64_t block, int64_t panel, const float* m, int64_t stride) {
  constexpr int kIn = T + 2;
  const F32 d;
  using V = hn::Vec<F32>;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t I = plan.g.channels;
  for (int64_t r = 0; r < kGradientRows && block * kGradientRows + r < plan.p.outputs; ++r) {
    for (int64_t c = 0; c < plan.width && panel * plan.width + c < I; c += lanes) {
      const float* from = m + r * plan.width + c;
      V half[3][kIn];
#pragma GCC unroll 8
      for (int j = 0; j < kIn; ++j) {
        V x[kIn], w[3];
#pragma GCC unroll 8
        for (int i = 0; i < kIn; ++i) x[i] = hn::LoadU(d, from + (i * kIn + j) * stride);
        Axis<T>::WeightsBack(d, x, w);
#pragma GCC unroll 8
        for (int i = 0; i < 3; ++i) half[i][j] = w[i];
      }
      HWY_ALIGN float taps[9][HWY_MAX_BYTES / 4];
#pragma GCC unroll 8
      for (int i = 0; i < 3; ++i) {
        V w[3];
        Axis<T>::WeightsBack(d, half[i], w);
#pragma GCC unroll 8
        for (int j = 0; j < 3; ++j) hn::Store(w[j], d, taps[i * 3 + j]);
      }
      float* to = plan.p.dw + ((block * kGradientRows + r) * I + panel * plan.width + c) * 9;
      const int64_t here = std::min(lanes, I - panel * plan.width - c);
      for (int64_t lane = 0; lane < here; ++lane)
        for (int tap = 0; tap < 9; ++tap) to[lane * 9 + tap] = taps[tap][lane];
    }
  }
}

template <int T>
void Gradient(const WeightGradientProblem& p) {
  constexpr int kPositions = GradientPlan<T>::kPositions;
  const GradientPlan<T> plan(p);
  const int64_t group = std::min(kGroupTiles, plan.tiles.count);
  // Zeros where there is no channel: what lies there is multiplied, though nobody reads the result.
  const auto zeroed = [](int64_t count) {
    Tensor tensor = Tensor::empty({count});
    std::memset(tensor.raw(), 0, tensor.bytes());
    return tensor;
  };
  Tensor inputs = zeroed(kPositions * plan.panels * group * plan.width);
  Tensor outputs = zeroed(kPositions * plan.blocks * group * kGradientRows);
  Tensor accumulators = Tensor::empty({kPositions * plan.block_of_blocks * plan.accumulators_of_block()});
  float *u = inputs.data<float>(), *v = outputs.data<float>(), *m = accumulators.data<float>();
  const std::vector<float> zeros(std::max(plan.g.channels, p.outputs));
  const int64_t cell = kGradientRows * plan.width;  // of accumulators
  for (int64_t first_block = 0; first_block < plan.blocks; first_block += plan.block_of_blocks) {
    const int64_t blocks = std::min(plan.block_of_blocks, plan.blocks - first_block);
    const int64_t position_size = blocks * plan.panels * cell;
    std::memset(m, 0, static_cast<size_t>(kPositions * position_size) * sizeof(float));
    for (int64_t first = 0; first < plan.tiles.count; first += group) {
      const int64_t count = std::min(group, plan.tiles.count - first);
      parallel_for(count, 4, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) {
          TransformX<T>(plan, first + t, t, count, zeros.data(), u);
          TransformDy<T>(plan, first + t, t, count, zeros.data(), v);
        }
      });
      parallel_for(kPositions * plan.panels, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t position = i / plan.panels, panel = i % plan.panels;
          const float* right = u + i * count * plan.width;
          const float* left = v + (position * plan.blocks + first_block) * count * kGradientRows;
          float* to = m + position * position_size + panel * blocks * cell;
          for (int64_t block = 0; block < blocks; ++block, left += count * kGradientRows, to += cell)
            AddProducts(left, right, count, plan.width, to);
        }
      });
    }
    parallel_for(blocks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; ++block) {
        for (int64_t panel = 0; panel < plan.panels; ++panel)
          FinishBlock<T>(plan, first_block + block, panel, m + (panel * blocks + block) * cell,
                         position_size);
      }
    });
  }
}

void Gradient2(const WeightGradientProblem& p) { Gradient<2>(p); }
void Gradient4(const WeightGradientProblem& p) { Gradient<4>(p); }

}  // namespace HWY_NAMESPACE
}  // namespace sinopia
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinopia {

HWY_EXPORT(Gradient2);
HWY_EXPORT(Gradient4);

double winograd_gradient_cost(const WeightGradientProblem& p, int tile) {
  // What it takes to move one number of a tile to its transformed place, and to bring one accumulator of one
  // position to a weight.
  constexpr double kPixelCost = 25, kFinishCost = 30;
  const Patches& g = p.patches;
  const auto tiles = static_cast<double>(WinogradTiles(g, p.images, tile).count);
  const auto positions = static_cast<double>((tile + 2) * (tile + 2));
  const auto I = static_cast<double>(g.channels), O = static_cast<double>(p.outputs);
  return positions * (tiles * I * O + tiles * kPixelCost * (I + O) + kFinishCost * I * O);
}

double direct_gradient_cost(const WeightGradientProblem& p) {
  constexpr double kLayoutCost = 30;  // of a pixel of a patch
  const Patches& g = p.patches;
  const auto pixels = static_cast<double>(p.images * g.out_height * g.out_width);
  return 9 * pixels * static_cast<double>(g.channels) * (static_cast<double>(p.outputs) + kLayoutCost);
}

void winograd_weight_gradient(const WeightGradientProblem& problem, int tile) {
  if (tile == 2) return HWY_DYNAMIC_DISPATCH(Gradient2)(problem);
  HWY_DYNAMIC_DISPATCH(Gradient4)(problem);
}

}  // namespace sinopia
#endif
