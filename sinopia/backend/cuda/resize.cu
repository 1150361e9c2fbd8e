#include <algorithm>
#include <cmath>
#include <cstdint>

#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/backend/cuda/divisor.h"
#include "sinopia/backend/cuda/elements.h"
#include "sinopia/backend/cuda/map.h"
#include "sinopia/backend/cuda/runtime.h"

namespace sinopia {
namespace cuda {
namespace {

/// y [N,OH,OW,C] row by row: blockIdx.x counts rows of all pictures in steps of blockDim.y, and the threads
/// along x go through a row, together with blockIdx.y.
struct RowGrid {
  dim3 grid, block;

  RowGrid(int64_t rows, int64_t per_row) {
    constexpr unsigned kThreads = 256;
    unsigned across = 32;
    while (across < kThreads && across < per_row) across *= 2;
    block = dim3(across, kThreads / across);
    grid = dim3(static_cast<unsigned>(ceil_div(rows, block.y)),
                static_cast<unsigned>(std::min<int64_t>(ceil_div(per_row, across), 65535)));
  }
};

__device__ inline int64_t row_of_thread() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
}
__device__ inline int64_t first_in_row() {
  return static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x;
}
__device__ inline int64_t step_in_row() { return static_cast<int64_t>(gridDim.y) * blockDim.x; }

// nearest

__device__ int64_t nearest_position(int64_t output, float scale, int64_t in) {
  const auto position = static_cast<int64_t>(floorf(static_cast<float>(output) * scale));
  return position < in ? position : in - 1;
}

struct NearestAxis {
  int64_t in;
  float scale;  ///< inputs per output
};

/// A pixel is C pieces of type P; `rows` is N * OH.
template <class P>
__global__ void copy_nearest(const P* x, NearestAxis down, NearestAxis across, int64_t C, int64_t rows,
                             int64_t per_row, Divisor by_height, Divisor by_pixel, P* y) {
  const int64_t row = row_of_thread();
  if (row >= rows) return;
  int64_t at = row;
  const int64_t n = by_height.divide(at);
  const P* source = x + (n * down.in + nearest_position(at, down.scale, down.in)) * across.in * C;
  for (int64_t i = first_in_row(); i < per_row; i += step_in_row()) {
    int64_t c = i;
    const int64_t pixel = by_pixel.divide(c);
    y[row * per_row + i] = source[nearest_position(pixel, across.scale, across.in) * C + c];
  }
}

/// Twice the size: every piece is read once and written four times. `rows` is N * H.
template <class P>
__global__ void copy_doubled(const P* x, int64_t C, int64_t rows, int64_t per_row, Divisor by_pixel, P* y) {
  const int64_t row = row_of_thread();
  if (row >= rows) return;
  for (int64_t i = first_in_row(); i < per_row; i += step_in_row()) {
    const P piece = x[row * per_row + i];
    P* to = y + row * 4 * per_row + by_pixel.quotient(i) * C + i;  // pixels before this one count twice
    to[0] = piece;
    to[C] = piece;
    to[2 * per_row] = piece;
    to[2 * per_row + C] = piece;
  }
}

template <class P>
void resize_in_pieces(const Tensor& x, Tensor& y) {
  const int64_t H = x.dim(1), W = x.dim(2), OH = y.dim(1), OW = y.dim(2);
  const auto C = static_cast<int64_t>(static_cast<size_t>(x.dim(3)) * size_of(x.dtype()) / sizeof(P));
  const auto* from = static_cast<const P*>(x.raw());
  auto* to = static_cast<P*>(y.raw());
  const Divisor by_pixel(C);
  if (OH == 2 * H && OW == 2 * W) {
    const int64_t rows = x.dim(0) * H;
    const RowGrid shape(rows, W * C);
    return launch(copy_doubled<P>, shape.grid, shape.block, 0, from, C, rows, W * C, by_pixel, to);
  }
  const int64_t rows = x.dim(0) * OH;
  const RowGrid shape(rows, OW * C);
  const NearestAxis down{H, static_cast<float>(H) / static_cast<float>(OH)},
      across{W, static_cast<float>(W) / static_cast<float>(OW)};
  launch(copy_nearest<P>, shape.grid, shape.block, 0, from, down, across, C, rows, OW * C, Divisor(OH),
         by_pixel, to);
}

/// A copy knows no numbers: a pixel goes in the largest pieces that it and both addresses are made of.
void resize_nearest(const Tensor& x, Tensor& y) {
  const auto pixel = static_cast<uintptr_t>(x.dim(3)) * size_of(x.dtype());
  const uintptr_t both = pixel | reinterpret_cast<uintptr_t>(x.raw()) | reinterpret_cast<uintptr_t>(y.raw());
  if (both % 16 == 0) return resize_in_pieces<Run<uint32_t, 4>>(x, y);
  if (both % 8 == 0) return resize_in_pieces<Run<uint32_t, 2>>(x, y);
  if (both % 4 == 0) return resize_in_pieces<uint32_t>(x, y);
  resize_in_pieces<uint16_t>(x, y);
}

// weighted means, first over rows and then over columns

/// Which inputs make up each output along one axis: `taps` positions and weights an output, in an array of
/// the device. Those beyond what an output needs weigh nothing.
struct Axis {
  int64_t in, out;
  int taps;
  int32_t* positions;
  float* weights;
};

struct FilterKind {
  bool area, cubic, antialias;
};

int taps_of(FilterKind kind, int64_t in, int64_t out) {
  if (kind.area) {
    int64_t taps = 1;
    for (int64_t o = 0; o < out; ++o) taps = std::max(taps, ((o + 1) * in + out - 1) / out - o * in / out);
    return static_cast<int>(taps);
  }
  if (!kind.antialias) return kind.cubic ? 4 : 2;
  const float scale = static_cast<float>(in) / static_cast<float>(out);
  return static_cast<int>(std::ceil((kind.cubic ? 2.0f : 1.0f) * std::max(scale, 1.0f))) * 2 + 1;
}

/// Cubic convolution, Keys 1981, at distance t from the sample.
__device__ float cubic(float t, float a) {
  t = fabsf(t);
  if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  if (t < 2) return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a;
  return 0;
}

__device__ float triangle(float t) { return fmaxf(0.0f, 1 - fabsf(t)); }

__device__ void set_area(const Axis& axis, int64_t o, int32_t* positions, float* weights) {
  const int64_t begin = o * axis.in / axis.out, end = ((o + 1) * axis.in + axis.out - 1) / axis.out;
  const auto count = static_cast<int>(end - begin);
  for (int k = 0; k < axis.taps; ++k) {
    positions[k] = static_cast<int32_t>(begin) + (k < count ? k : 0);
    weights[k] = k < count ? 1 / static_cast<float>(count) : 0;
  }
}

/// Two taps of a triangle or four of a cubic around the source position, edges clamped.
__device__ void set_interpolating(const Axis& axis, bool is_cubic, int64_t o, int32_t* positions,
                                  float* weights) {
  const float scale = static_cast<float>(axis.in) / static_cast<float>(axis.out);
  float position = scale * (static_cast<float>(o) + 0.5f) - 0.5f;
  if (!is_cubic) position = fmaxf(position, 0.0f);
  const float floor = floorf(position), t = position - floor;
  const int64_t first = static_cast<int64_t>(floor) - (is_cubic ? 1 : 0);
  for (int k = 0; k < axis.taps; ++k) {
    const float distance = static_cast<float>(k) - t;
    const int64_t at = first + k;
    positions[k] = static_cast<int32_t>(at < 0 ? 0 : at < axis.in ? at : axis.in - 1);
    weights[k] = is_cubic ? cubic(distance - 1, -0.75f) : triangle(distance);
  }
}

/// The filter is stretched by the scale when shrinking, cut at the edges, and its weights made to add up to
/// one.
__device__ void set_antialiased(const Axis& axis, bool is_cubic, int64_t o, int32_t* positions,
                                float* weights) {
  const float scale = static_cast<float>(axis.in) / static_cast<float>(axis.out);
  const float stretch = fmaxf(scale, 1.0f), support = (is_cubic ? 2.0f : 1.0f) * stretch;
  const float center = scale * (static_cast<float>(o) + 0.5f);
  const auto low = static_cast<int64_t>(center - support + 0.5f),
             high = static_cast<int64_t>(center + support + 0.5f);
  const int64_t begin = low > 0 ? low : 0, end = high < axis.in ? high : axis.in;
  const int count = end - begin < axis.taps ? static_cast<int>(end - begin) : axis.taps;
  float total = 0;
  for (int k = 0; k < count; ++k) {
    const float t = (static_cast<float>(k + begin) - center + 0.5f) / stretch;
    weights[k] = is_cubic ? cubic(t, -0.5f) : triangle(t);
    total += weights[k];
  }
  for (int k = 0; k < axis.taps; ++k) {
    positions[k] = static_cast<int32_t>(begin) + (k < count ? k : 0);
    weights[k] = k < count ? weights[k] / total : 0;
  }
}

/// One thread an output of either axis.
__global__ void set_axes(FilterKind kind, Axis rows, Axis columns) {
  int64_t o = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const bool is_row = o < rows.out;
  const Axis axis = is_row ? rows : columns;
  if (!is_row) o -= rows.out;
  if (o >= axis.out) return;
  int32_t* positions = axis.positions + o * axis.taps;
  float* weights = axis.weights + o * axis.taps;
  if (kind.area) {
    set_area(axis, o, positions, weights);
  } else if (kind.antialias) {
    set_antialiased(axis, kind.cubic, o, positions, weights);
  } else {
    set_interpolating(axis, kind.cubic, o, positions, weights);
  }
}

/// sums = or += weight * values, the latter fused.
template <class T, int kCount>
__device__ void weigh(const Run<T, kCount>& values, float weight, bool first, float (&sums)[kCount]) {
#pragma unroll
  for (int c = 0; c < kCount; ++c) {
    const float value = widen(values.values[c]);
    sums[c] = first ? value * weight : fmaf(value, weight, sums[c]);
  }
}

template <class T, int kCount>
__device__ Run<T, kCount> narrowed(const float (&sums)[kCount]) {
  Run<T, kCount> result;
#pragma unroll
  for (int c = 0; c < kCount; ++c) result.values[c] = narrow_to<T>(sums[c]);
  return result;
}

/// x [N,H,W,C] -> y [N,OH,OW,C] at once, for few taps. `rows` is N * OH; a pixel is `pieces` runs.
template <class T, int kCount>
__global__ void resize_at_once(const T* x, Axis down, Axis across, int64_t pieces, int64_t rows,
                               Divisor by_height, Divisor by_pixel, T* y) {
  using Values = Run<T, kCount>;
  const int64_t row = row_of_thread();
  if (row >= rows) return;
  const int64_t per_row = across.out * pieces, line = across.in * pieces;
  int64_t o = row;
  const int64_t n = by_height.divide(o);
  const auto* picture = reinterpret_cast<const Values*>(x) + n * down.in * line;
  auto* to = reinterpret_cast<Values*>(y) + row * per_row;
  for (int64_t i = first_in_row(); i < per_row; i += step_in_row()) {
    int64_t rest = i;
    const int64_t pixel = by_pixel.divide(rest);
    float sums[kCount] = {};
    for (int k = 0; k < across.taps; ++k) {
      const int64_t tap = pixel * across.taps + k;
      const Values* column = picture + across.positions[tap] * pieces + rest;
      float mixed[kCount] = {};
      for (int t = 0; t < down.taps; ++t) {
        weigh(column[down.positions[o * down.taps + t] * line], down.weights[o * down.taps + t], t == 0,
              mixed);
      }
      const float weight = across.weights[tap];
#pragma unroll
      for (int c = 0; c < kCount; ++c) sums[c] = k == 0 ? mixed[c] * weight : fmaf(mixed[c], weight, sums[c]);
    }
    to[i] = narrowed<T>(sums);
  }
}

/// x [N,H,line] -> y [N,OH,line], a line being `pieces` runs.
template <class T, int kCount>
__global__ void mix_rows(const T* x, Axis down, int64_t pieces, int64_t rows, Divisor by_height, float* y) {
  const int64_t row = row_of_thread();
  if (row >= rows) return;
  int64_t o = row;
  const int64_t n = by_height.divide(o);
  const auto* picture = reinterpret_cast<const Run<T, kCount>*>(x) + n * down.in * pieces;
  auto* to = reinterpret_cast<Run<float, kCount>*>(y) + row * pieces;
  for (int64_t i = first_in_row(); i < pieces; i += step_in_row()) {
    float sums[kCount] = {};
#pragma unroll 4
    for (int t = 0; t < down.taps; ++t) {
      const int64_t tap = o * down.taps + t;
      weigh(picture[down.positions[tap] * pieces + i], down.weights[tap], t == 0, sums);
    }
    to[i] = narrowed<float>(sums);
  }
}

/// x [rows,W,C] -> y [rows,OW,C]
template <class T, int kCount>
__global__ void mix_columns(const float* x, Axis across, int64_t pieces, int64_t rows, Divisor by_pixel,
                            T* y) {
  const int64_t row = row_of_thread();
  if (row >= rows) return;
  const int64_t per_row = across.out * pieces;
  const auto* from = reinterpret_cast<const Run<float, kCount>*>(x) + row * across.in * pieces;
  auto* to = reinterpret_cast<Run<T, kCount>*>(y) + row * per_row;
  for (int64_t i = first_in_row(); i < per_row; i += step_in_row()) {
    int64_t rest = i;
    const int64_t pixel = by_pixel.divide(rest);
    float sums[kCount] = {};
#pragma unroll 4
    for (int k = 0; k < across.taps; ++k) {
      const int64_t tap = pixel * across.taps + k;
      weigh(from[across.positions[tap] * pieces + rest], across.weights[tap], k == 0, sums);
    }
    to[i] = narrowed<T>(sums);
  }
}

template <class T>
void resize_weighted(const Tensor& x, const Axis& down, const Axis& across, Tensor& y) {
  constexpr int kRun = 16 / sizeof(T);
  constexpr int kTapsAtOnce = 16;  // two by two of bilinear, four by four of bicubic
  const int64_t C = x.dim(3), rows = x.dim(0) * down.out, line = across.in * C;
  const auto* from = static_cast<const T*>(x.raw());
  auto* to = static_cast<T*>(y.raw());
  const bool pixels_in_runs = C % kRun == 0 && aligned({from, to}, 16);
  const int64_t pieces = pixels_in_runs ? C / kRun : C;
  const RowGrid by_pixels(rows, across.out * pieces);
  const Divisor by_height(down.out), by_pixel(pieces);
  if (down.taps * across.taps <= kTapsAtOnce) {
    return launch(pixels_in_runs ? resize_at_once<T, kRun> : resize_at_once<T, 1>, by_pixels.grid,
                  by_pixels.block, 0, from, down, across, pieces, rows, by_height, by_pixel, to);
  }
  Tensor mixed = scratch(static_cast<size_t>(rows * line) * sizeof(float));
  auto* between = static_cast<float*>(mixed.raw());
  const bool lines_in_runs = line % kRun == 0 && aligned({from}, 16);
  const int64_t of_line = lines_in_runs ? line / kRun : line;
  const RowGrid by_lines(rows, of_line);
  launch(lines_in_runs ? mix_rows<T, kRun> : mix_rows<T, 1>, by_lines.grid, by_lines.block, 0, from, down,
         of_line, rows, by_height, between);
  launch(pixels_in_runs ? mix_columns<T, kRun> : mix_columns<T, 1>, by_pixels.grid, by_pixels.block, 0,
         between, across, pieces, rows, by_pixel, to);
}

}  // namespace
}  // namespace cuda

void CudaKernels::resize(const Tensor& x, ResizeFilter filter, bool antialias, Tensor& y) {
  using namespace cuda;
  if (y.numel() == 0) return;
  if (filter == ResizeFilter::Nearest) return resize_nearest(x, y);
  const FilterKind kind{filter == ResizeFilter::Area, filter == ResizeFilter::Bicubic, antialias};
  Axis down{x.dim(1), y.dim(1), taps_of(kind, x.dim(1), y.dim(1)), nullptr, nullptr},
      across{x.dim(2), y.dim(2), taps_of(kind, x.dim(2), y.dim(2)), nullptr, nullptr};
  // Made there, since a copy from the host's memory could not be recorded.
  const int64_t down_taps = down.out * down.taps, across_taps = across.out * across.taps;
  Tensor tables = scratch(static_cast<size_t>(down_taps + across_taps) * (sizeof(float) + sizeof(int32_t)));
  down.positions = static_cast<int32_t*>(tables.raw());
  across.positions = down.positions + down_taps;
  down.weights = reinterpret_cast<float*>(across.positions + across_taps);
  across.weights = down.weights + down_taps;
  constexpr int64_t kThreads = 128;
  launch(set_axes, dim3(static_cast<unsigned>(ceil_div(down.out + across.out, kThreads))), dim3(kThreads), 0,
         kind, down, across);
  for_float(x.dtype(), [&](auto t) { resize_weighted<decltype(t)>(x, down, across, y); });
}

}  // namespace sinopia
