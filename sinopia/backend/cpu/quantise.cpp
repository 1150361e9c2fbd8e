#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>

#include "sinopia/backend/cpu/quantised.h"
#include "sinopia/base/error.h"

namespace sinopia {
namespace {

constexpr int kLanes = 8;  // sums in this many parts, whatever the machine, so that its bits do not matter
constexpr float kTiny = 1e-30f;   // below any scale in f16
constexpr float kMax = 65504.0f;  // of f16, which holds the scales

float sum_of(const float (&parts)[kLanes]) {
  return ((parts[0] + parts[4]) + (parts[2] + parts[6])) + ((parts[1] + parts[5]) + (parts[3] + parts[7]));
}

float largest(std::span<const float> x) {
  float largest = 0;
  for (float v : x) largest = std::max(largest, std::abs(v));
  return largest;
}

/// Large values weigh more in a product's error, up to some three times as much as small ones.
void weigh(std::span<const float> x, float* w) {
  float squares = 0;
  for (float v : x) squares += v * v;
  const float typical = std::sqrt(squares / static_cast<float>(x.size()));
  for (size_t i = 0; i < x.size(); ++i) w[i] = typical + std::abs(x[i]);
}

/// x[i] is near scale * q[i] + offset, q whole numbers in [low,high].
struct Grid {
  float scale = 0, offset = 0;
};

struct Range {
  int low, high;
};

/// The nearest q, as floats: (x - offset) / scale, rounded, in range.
void nearest(std::span<const float> x, const Grid& grid, Range range, float* q) {
  const float inverse = std::abs(grid.scale) > kTiny ? 1 / grid.scale : 0;
  const float low = static_cast<float>(range.low), high = static_cast<float>(range.high);
  // Conversion to int cuts towards zero: the shift makes that rounding down for every q in range.
  const float half = 0.5f - low;
  for (size_t i = 0; i < x.size(); ++i) {
    const float exact = std::min(std::max((x[i] - grid.offset) * inverse, low), high);
    q[i] = static_cast<float>(static_cast<int>(exact + half)) + low;
  }
}

/// sum w (scale q + offset - x)^2
float error_of(std::span<const float> x, const float* w, const float* q, const Grid& grid) {
  float sum[kLanes] = {};
  for (size_t i = 0; i < x.size(); i += kLanes) {
    for (size_t j = 0; j < kLanes; ++j) {
      const float e = grid.scale * q[i + j] + grid.offset - x[i + j];
      sum[j] += w[i + j] * e * e;
    }
  }
  return sum_of(sum);
}

/// The grid with the least weighted squared error for given q. The offset is at most 0 and only there if
/// `has_offset`.
Grid fit(std::span<const float> x, const float* w, const float* q, bool has_offset) {
  float w_sum[kLanes] = {}, wx[kLanes] = {}, wq[kLanes] = {}, wqq[kLanes] = {}, wqx[kLanes] = {};
  for (size_t i = 0; i < x.size(); i += kLanes) {
    for (size_t j = 0; j < kLanes; ++j) {
      const float weight = w[i + j], weighted_q = weight * q[i + j];
      w_sum[j] += weight;
      wx[j] += weight * x[i + j];
      wq[j] += weighted_q;
      wqq[j] += weighted_q * q[i + j];
      wqx[j] += weighted_q * x[i + j];
    }
  }
  const double W = sum_of(w_sum), X = sum_of(wx), Q = sum_of(wq), QQ = sum_of(wqq), QX = sum_of(wqx);
  const double determinant = W * QQ - Q * Q;
  if (has_offset && determinant > 1e-6 * W * QQ) {
    const double offset = (QQ * X - Q * QX) / determinant;
    if (offset <= 0) return {static_cast<float>((W * QX - Q * X) / determinant), static_cast<float>(offset)};
  }
  return {QQ > 0 ? static_cast<float>(QX / QQ) : 0, 0};
}

/// The best grid that a search from several first guesses finds; every guess is refined once by its own
/// optimum, as in Lloyd's algorithm.
Grid search(std::span<const float> x, const float* w, Range range, std::span<const Grid> guesses,
            bool has_offset) {
  float q[32];
  Grid best;
  float least = std::numeric_limits<float>::infinity();
  for (Grid grid : guesses) {
    for (int round = 0; round < 2; ++round) {
      nearest(x, grid, range, q);
      grid = fit(x, w, q, has_offset);
      const float error = error_of(x, w, q, grid);
      if (error < least) {
        least = error;
        best = grid;
      }
    }
  }
  return best;
}

/// scale and offset for values that are not centred, both within [0,..] after the offset's sign is turned.
Grid search_with_min(std::span<const float> x, const float* w, int levels) {
  const auto [low, high] = std::ranges::minmax(x);
  const float offset = std::min(low, 0.0f), width = high - offset;
  if (width < kTiny) return {0, offset};
  Grid guesses[16];
  for (int i = 0; i < 16; ++i) {
    guesses[i] = {width / (static_cast<float>(levels) + 0.125f * static_cast<float>(i - 8)), offset};
  }
  return search(x, w, {0, levels}, guesses, true);
}

Grid search_centred(std::span<const float> x, const float* w, Range range) {
  const float extreme = *std::ranges::max_element(x, {}, [](float v) { return std::abs(v); });
  if (std::abs(extreme) < kTiny) return {};
  Grid guesses[17];
  for (int i = 0; i < 17; ++i) {
    guesses[i].scale = extreme / (static_cast<float>(range.low) + 0.125f * static_cast<float>(i - 8));
  }
  return search(x, w, range, guesses, false);
}

/// v / unit, rounded and within [low,high].
int whole(float v, float unit, int low, int high) {
  return unit != 0 ? static_cast<int>(
                         std::lround(std::clamp(v / unit, static_cast<float>(low), static_cast<float>(high))))
                   : 0;
}

void encode(const float* x, BlockQ8_0& block) {
  const float d = largest({x, 32}) / 127;
  const float inverse = d > kTiny ? 1 / d : 0;
  for (int i = 0; i < 32; ++i) block.q[i] = static_cast<int8_t>(std::lround(x[i] * inverse));
  block.d = to_half(d);
}

void encode(const float* x, BlockQ4_0& block) {
  const float d =
      *std::max_element(x, x + 32, [](float a, float b) { return std::abs(a) < std::abs(b); }) / -8;
  const float inverse = std::abs(d) > kTiny ? 1 / d : 0;
  const auto level = [&](float v) {
    return static_cast<uint8_t>(std::clamp(static_cast<int>(v * inverse + 8.5f), 0, 15));
  };
  for (int i = 0; i < 16; ++i) block.q[i] = static_cast<uint8_t>(level(x[i]) | level(x[16 + i]) << 4);
  block.d = to_half(d);
}

/// d, dmin and scales for x [256]; q gets the levels.
template <class Block>
void encode_with_mins(const float* x, int levels, Block& block, float* q) {
  float w[256];
  Grid grids[8];
  float scale = 0, min = 0;
  for (int s = 0; s < 8; ++s) {
    const std::span run(x + 32 * s, 32);
    weigh(run, w + 32 * s);
    grids[s] = search_with_min(run, w + 32 * s, levels);
    scale = std::max(scale, grids[s].scale);
    min = std::max(min, -grids[s].offset);
  }
  block.d = to_half(scale / 63);
  block.dmin = to_half(min / 63);
  const float d = to_float(block.d), dmin = to_float(block.dmin);
  KScales scales;
  for (int s = 0; s < 8; ++s) {
    const std::span run(x + 32 * s, 32);
    const int near_scale = whole(grids[s].scale, d, 0, 63), near_min = whole(-grids[s].offset, dmin, 0, 63);
    float least = std::numeric_limits<float>::infinity();
    for (int a = std::max(0, near_scale - 1); a <= std::min(63, near_scale + 1); ++a) {
      for (int b = std::max(0, near_min - 1); b <= std::min(63, near_min + 1); ++b) {
        const Grid grid{d * static_cast<float>(a), -dmin * static_cast<float>(b)};
        float levels_here[32];
        nearest(run, grid, {0, levels}, levels_here);
        const float error = error_of(run, w + 32 * s, levels_here, grid);
        if (error >= least) continue;
        least = error;
        scales.scale[s] = static_cast<uint8_t>(a);
        scales.min[s] = static_cast<uint8_t>(b);
        std::copy_n(levels_here, 32, q + 32 * s);
      }
    }
  }
  scales.pack(block.scales);
}

void encode(const float* x, BlockQ4_K& block) {
  float q[256];
  encode_with_mins(x, 15, block, q);
  for (int j = 0; j < 128; ++j) {
    const float* pair = q + j / 32 * 64 + j % 32;
    block.q[j] = static_cast<uint8_t>(static_cast<int>(pair[0]) | static_cast<int>(pair[32]) << 4);
  }
}

void encode(const float* x, BlockQ5_K& block) {
  float q[256];
  encode_with_mins(x, 31, block, q);
  std::fill_n(block.high, 32, uint8_t{0});
  for (int j = 0; j < 128; ++j) {
    const int s = j / 32 * 2, i = j % 32;
    const int a = static_cast<int>(q[32 * s + i]), b = static_cast<int>(q[32 * s + 32 + i]);
    block.q[j] = static_cast<uint8_t>((a & 15) | (b & 15) << 4);
    block.high[i] = static_cast<uint8_t>(block.high[i] | (a >> 4) << s | (b >> 4) << (s + 1));
  }
}

void encode(const float* x, BlockQ6_K& block) {
  constexpr Range kRange{-32, 31};
  float q[256], w[256];
  Grid grids[16];
  float extreme = 0;
  for (int s = 0; s < 16; ++s) {
    weigh({x + 16 * s, 16}, w + 16 * s);
    grids[s] = search_centred({x + 16 * s, 16}, w + 16 * s, kRange);
    if (std::abs(grids[s].scale) > std::abs(extreme)) extreme = grids[s].scale;
  }
  block.d = to_half(extreme / -128);
  const float d = to_float(block.d);
  for (int s = 0; s < 16; ++s) {
    const std::span run(x + 16 * s, 16);
    const int near_scale = whole(grids[s].scale, d, -128, 127);
    float least = std::numeric_limits<float>::infinity();
    for (int a = std::max(-128, near_scale - 1); a <= std::min(127, near_scale + 1); ++a) {
      const Grid grid{d * static_cast<float>(a), 0};
      float here[16];
      nearest(run, grid, kRange, here);
      const float error = error_of(run, w + 16 * s, here, grid);
      if (error >= least) continue;
      least = error;
      block.scales[s] = static_cast<int8_t>(a);
      std::copy_n(here, 16, q + 16 * s);
    }
  }
  for (int half = 0; half < 2; ++half) {
    const auto level = [&](int i) { return static_cast<int>(q[128 * half + i]) + 32; };
    for (int i = 0; i < 64; ++i) {
      block.low[64 * half + i] = static_cast<uint8_t>((level(i) & 15) | (level(i + 64) & 15) << 4);
    }
    for (int i = 0; i < 32; ++i) {
      block.high[32 * half + i] = static_cast<uint8_t>((level(i) >> 4) | (level(i + 32) >> 4) << 2 |
                                                       (level(i + 64) >> 4) << 4 | (level(i + 96) >> 4) << 6);
    }
  }
}

template <class Block>
void encode_run(const float* from, int64_t elements, int64_t count, void* blocks) {
  char* to = static_cast<char*>(blocks);
  for (int64_t i = 0; i < count; i += elements, to += sizeof(Block)) {
    Block block;
    encode(from + i, block);
    std::memcpy(to, &block, sizeof block);
  }
}

}  // namespace

void quantise(DType dtype, const float* from, int64_t count, void* blocks) {
  for (int64_t i = 0; i < count; ++i) {
    SINOPIA_CHECK(std::abs(from[i]) <= kMax, InvalidArgument, "[quantise] cannot store {} as {}", from[i],
                  to_string(dtype));
  }
  const int64_t elements = block_elements(dtype);
  switch (dtype) {
    case DType::Q8_0:
      return encode_run<BlockQ8_0>(from, elements, count, blocks);
    case DType::Q6_K:
      return encode_run<BlockQ6_K>(from, elements, count, blocks);
    case DType::Q5_K:
      return encode_run<BlockQ5_K>(from, elements, count, blocks);
    case DType::Q4_K:
      return encode_run<BlockQ4_K>(from, elements, count, blocks);
    case DType::Q4_0:
      return encode_run<BlockQ4_0>(from, elements, count, blocks);
    default:
      fail(ErrorKind::Unsupported, "[quantise] expected a quantised type, got {}", to_string(dtype));
  }
}

}  // namespace sinopia
