#pragma once

#include <algorithm>
#include <numeric>

#include "sinopia/backend/cuda/dynamic_shared.h"
#include "sinopia/backend/cuda/map.h"
#include "sinopia/backend/cuda/parameters.h"
#include "sinopia/backend/cuda/reductions.h"

namespace sinopia::cuda {

// Sums over groups of neighbouring channels of x [N,P,C], whose channels are read in runs of kCount. A thread
// keeps to a run of channels and adds the numbers of few pixels in f32, less a shift near their mean; what
// comes after is added in double, less the group's first number. Both belong to what is summed, which bounds
// their distance from its mean in deviations: little is lost where a mean is large, and all sums are plain
// ones, in an order that depends on the shape alone.

/// Which part of a picture a block has, and its threads: thread t has the run t % columns of the block's
/// channels, of the pixels t / columns, t / columns + rows, .. of its chunk.
struct PixelGrid {
  int64_t pixels = 0, channels = 0, chunk = 0;  // of a picture, and the pixels of a block
  int width = 0;                                // channels of a group
  int merged =
      0;  // neighbouring channels of a run that are always of one group and share a sum: 1, 2, 4 or 8
  int columns = 0, rows = 0, strips = 0, chunks = 0;
  int groups_of_strip = 0;  // at most

  int threads() const { return (columns * rows + 31) / 32 * 32; }
  /// Of the block's sums: two for each place of each thread.
  __host__ __device__ size_t shared_bytes(int count) const {
    return static_cast<size_t>(columns) * rows * (count / merged) * 2 * sizeof(double);
  }
};

inline constexpr int kPixelThreads = 384;
/// The threads, of at most `threads`, whose sums fit into 32 KiB.
inline int threads_of_sums(int threads, int places) { return std::min(threads, 2048 / places); }
/// Pixels whose numbers a thread reads at once, and whose mean is its shift.
inline constexpr int kPixelBatch = 4;

/// Blocks of all channels, or of strips where these are more than a block's threads; `least` is how many
/// pixels a thread has at least, where there are so many. Nothing depends on the number of pictures, so that
/// each comes out the same in any company.
inline PixelGrid pixel_grid(int64_t P, int64_t C, int groups, int count, int most_threads = kPixelThreads,
                            int64_t least = kPixelBatch) {
  PixelGrid grid;
  grid.pixels = P;
  grid.channels = C;
  grid.width = static_cast<int>(C / groups);
  grid.merged = std::gcd(grid.width, count);
  const int64_t runs = C / count;
  const int threads = threads_of_sums(most_threads, count / grid.merged);
  grid.strips = static_cast<int>(ceil_div(runs, threads));
  grid.columns = static_cast<int>(ceil_div(runs, grid.strips));
  grid.rows = threads / grid.columns;
  const int64_t wanted =
      ceil_div(grid.strips * ceil_div(P, grid.rows), int64_t{4} * limits().multiprocessors);
  const int64_t each = std::clamp<int64_t>(ceil_div(wanted, kPixelBatch) * kPixelBatch, least, 128);
  grid.chunk = grid.rows * each;
  grid.chunks = static_cast<int>(ceil_div(P, grid.chunk));
  grid.groups_of_strip =
      static_cast<int>(std::min<int64_t>(groups, (int64_t{grid.columns} * count - 1) / grid.width + 2));
  return grid;
}

/// Where a thread is: its block's strip begins at channel `begin` and has `count`, its own run is at
/// `channel`, and its first pixel and the end of its block's are `first` and `end`.
struct PixelPlace {
  int begin, count, channel;
  int64_t first, end;
  bool active;
};

template <int kCount>
__device__ inline PixelPlace place_of(const PixelGrid& grid, int strip, int64_t chunk) {
  const int t = static_cast<int>(threadIdx.x), C = static_cast<int>(grid.channels);
  PixelPlace place;
  place.begin = strip * grid.columns * kCount;
  place.count = std::min(grid.columns * kCount, C - place.begin);
  place.channel = place.begin + t % grid.columns * kCount;
  place.first = chunk * grid.chunk + t / grid.columns;
  place.end = std::min(grid.pixels, (chunk + 1) * grid.chunk);
  place.active = t < grid.columns * grid.rows && place.channel < C;
  return place;
}

/// Sums of x and x^2, less a shift.
struct Moments2 {
  double sum, square;
};

/// What a thread has summed: for each channel of its run x - shift and its square, over `pixels` pixels.
template <int kCount>
struct RunSums {
  float shift[kCount], sum[kCount], square[kCount];
  int pixels = 0;
};

/// Of the pixels first, first + step, .. below `end`; x is at the channels of the first picture's pixel 0.
template <class T, int kCount>
__device__ inline RunSums<kCount> sum_pixels(const T* x, int64_t C, int64_t first, int64_t end, int step) {
  RunSums<kCount> s;
#pragma unroll
  for (int k = 0; k < kCount; ++k) s.shift[k] = s.sum[k] = s.square[k] = 0;
  if (first >= end) return s;
  s.pixels = static_cast<int>((end - first + step - 1) / step);
  const int64_t stride = C * step;
  const T* at = x + first * C;
  Run<T, kCount> batch[kPixelBatch];
  const auto add = [&](const Run<T, kCount>& run) {
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      const float v = widen(run.values[k]) - s.shift[k];
      s.sum[k] += v;
      s.square[k] = fmaf(v, v, s.square[k]);
    }
  };

  const int sampled = s.pixels < kPixelBatch ? s.pixels : kPixelBatch;
#pragma unroll
  for (int i = 0; i < kPixelBatch; ++i)
    if (i < sampled) batch[i] = load_run<T, kCount>(at + i * stride);
  const float part = 1.0f / static_cast<float>(sampled);
#pragma unroll
  for (int i = 0; i < kPixelBatch; ++i) {
    if (i >= sampled) continue;
#pragma unroll
    for (int k = 0; k < kCount; ++k) s.shift[k] = fmaf(widen(batch[i].values[k]), part, s.shift[k]);
  }
#pragma unroll
  for (int i = 0; i < kPixelBatch; ++i)
    if (i < sampled) add(batch[i]);

  int done = sampled;
  at += sampled * stride;
  for (; done + kPixelBatch <= s.pixels; done += kPixelBatch, at += kPixelBatch * stride) {
#pragma unroll
    for (int i = 0; i < kPixelBatch; ++i) batch[i] = load_run<T, kCount>(at + i * stride);
#pragma unroll
    for (int i = 0; i < kPixelBatch; ++i) add(batch[i]);
  }
  for (; done < s.pixels; ++done, at += stride) add(load_run<T, kCount>(at));
  return s;
}

/// Puts a thread's sums, now less the first number of their group, into shared memory: place q of thread t at
/// [q * threads + t]. `picture` is at pixel 0, channel 0; `channel` is the thread's first.
template <class T, int kCount>
__device__ inline void share_sums(const RunSums<kCount>& s, const T* picture, int channel,
                                  const PixelGrid& grid, Moments2* shared) {
  const int threads = grid.columns * grid.rows;
  const auto n = static_cast<double>(s.pixels);
  double first = 0;
  Moments2 all{0, 0};
  shared += threadIdx.x;
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    if ((k & (grid.merged - 1)) == 0) {
      first = static_cast<double>(widen(picture[(channel + k) / grid.width * grid.width]));
      all = {0, 0};
    }
    const double away = static_cast<double>(s.shift[k]) - first, sum = static_cast<double>(s.sum[k]);
    all.sum += sum + n * away;
    all.square += static_cast<double>(s.square[k]) + away * (2 * sum + n * away);
    if (((k + 1) & (grid.merged - 1)) == 0) {
      *shared = all;
      shared += threads;
    }
  }
}

/// The sums of a group over the block, by a whole warp, in all its lanes; `begin` is the block's first
/// channel and `count` how many it has.
template <int kCount>
__device__ inline Moments2 sum_of_group(const Moments2* shared, const PixelGrid& grid, int group, int begin,
                                        int count) {
  const int threads = grid.columns * grid.rows;
  const int from = std::max(group * grid.width - begin, 0) / grid.merged;
  const int to = std::min((group + 1) * grid.width - begin, count) / grid.merged;
  const int places = to - from, each = kCount / grid.merged;  // places of a thread
  Moments2 all{0, 0};
  for (int i = static_cast<int>(threadIdx.x) % 32; i < places * grid.rows; i += 32) {
    const int row = i / places, place = from + i % places;
    const Moments2 part = shared[place % each * threads + row * grid.columns + place / each];
    all.sum += part.sum;
    all.square += part.square;
  }
  return {warp_reduce<Plus>(all.sum), warp_reduce<Plus>(all.square)};
}

/// The partial sums of all blocks of pictures: [N, strips, groups of a strip, chunks].
__host__ __device__ inline int64_t part_count(const PixelGrid& grid, int64_t N) {
  return N * grid.strips * grid.groups_of_strip * grid.chunks;
}

/// Writes the block's sums of each group it has a part of; `parts` is the picture's.
template <int kCount>
__device__ inline void write_parts(const Moments2* shared, const PixelGrid& grid, const PixelPlace& place,
                                   int strip, int64_t chunk, Moments2* parts) {
  const int warp = static_cast<int>(threadIdx.x) / 32, warps = static_cast<int>(blockDim.x) / 32;
  const int first = place.begin / grid.width, last = (place.begin + place.count - 1) / grid.width;
  for (int g = first + warp; g <= last; g += warps) {
    const Moments2 sum = sum_of_group<kCount>(shared, grid, g, place.begin, place.count);
    if (threadIdx.x % 32 == 0)
      parts[(int64_t{strip} * grid.groups_of_strip + g - first) * grid.chunks + chunk] = sum;
  }
}

/// The sum of every `step`th part of a group from `begin` on.
template <int kCount>
__device__ inline Moments2 add_parts(const Moments2* parts, const PixelGrid& grid, int group, int begin,
                                     int step) {
  const int strip_channels = grid.columns * kCount, from = group * grid.width, to = from + grid.width;
  Moments2 all{0, 0};
  for (int s = from / strip_channels; s <= (to - 1) / strip_channels; ++s) {
    const int local = group - s * strip_channels / grid.width;
    const Moments2* const of_strip = parts + (int64_t{s} * grid.groups_of_strip + local) * grid.chunks;
#pragma unroll 4
    for (int i = begin; i < grid.chunks; i += step) {
      all.sum += of_strip[i].sum;
      all.square += of_strip[i].square;
    }
  }
  return all;
}

struct GroupStatistics {
  double mean;
  double factor;  ///< 1 / sqrt(variance + eps)
};

/// From sums of `count` numbers less `first`.
__device__ inline GroupStatistics statistics_of(const Moments2& sums, double first, double count, float eps) {
  const double away = sums.sum / count, variance = sums.square / count - away * away;
  return {first + away, 1.0 / sqrt((variance < 0 ? 0 : variance) + static_cast<double>(eps))};
}

}  // namespace sinopia::cuda
