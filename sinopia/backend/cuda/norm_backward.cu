#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/backend/cuda/group_statistics.h"

namespace sinopia {
namespace cuda {
namespace {

// The gradients of w and b are sums over rows or pixels: of few by each block in f32, whose results, in
// `parts`, are then added in double. All orders depend on the shape alone.

/// The sums of kValues numbers over the block, in every thread.
template <int kValues>
__device__ void block_sums(float (&values)[kValues]) {
  __shared__ float of_warps[kValues][32];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
#pragma unroll
  for (int i = 0; i < kValues; ++i) values[i] = warp_reduce<Plus>(values[i]);
  if (warps == 1) return;
  __syncthreads();
  if (lane == 0) {
#pragma unroll
    for (int i = 0; i < kValues; ++i) of_warps[i][warp] = values[i];
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kValues; ++i) values[i] = warp_reduce<Plus>(lane < warps ? of_warps[i][lane] : 0.0f);
}

/// dx = dy * w * r + ((x - mean) * slope + offset), dw += dy * ((x - mean) * r - shift), db += dy
struct RowGradient {
  float mean, r, slope, offset, shift;

  /// From the sums over the row of x - mean, its square, dy * w, and that times x - mean, each over D.
  __device__ RowGradient(float mean_, const float (&means)[4], bool centered, float eps) : mean(mean_) {
    const float rest = centered ? means[0] : 0.0f, sum = means[2];
    const float variance = means[1] - rest * rest;
    r = 1.0f / sqrtf((variance < 0 ? 0 : variance) + eps);
    const float along = r * (means[3] - rest * sum);
    slope = -along * r * r;
    offset = (centered ? -r * sum : 0.0f) + along * r * r * rest;
    shift = rest * r;
  }
  __device__ float dx(float x, float dy, float w) const { return dy * w * r + fmaf(x - mean, slope, offset); }
  __device__ float normal(float x) const { return fmaf(x - mean, r, -shift); }
};

/// The sums of a run of a row for RowGradient.
template <int kCount>
__device__ void add_run(const float* x, const float* dy, const float* w, float mean, float (&sums)[4]) {
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    const float away = x[k] - mean, weighed = dy[k] * w[k];
    sums[0] += away;
    sums[1] = fmaf(away, away, sums[1]);
    sums[2] += weighed;
    sums[3] = fmaf(weighed, away, sums[3]);
  }
}

template <int kCount>
__device__ void store_floats(const float* values, float* to) {
  Run<float, kCount> run;
#pragma unroll
  for (int k = 0; k < kCount; ++k) run.values[k] = values[k];
  store_run(to, run);
}

/// What the kernels for rows are given; dw and db [blocks, D], each may be null.
struct Rows {
  const float *x, *dy;
  float* dx;
  Parameters w;
  float eps;
  int64_t rows, D, each;  // `each` rows for a block
  float *dw, *db;
};

/// A thread has one run of each row, and so of dw and db.
template <int kCount, bool kCentered>
__global__ void __launch_bounds__(1024) rows_backward(Rows g) {
  const int64_t at = int64_t{threadIdx.x} * kCount;
  const bool active = at < g.D;
  const auto count = static_cast<float>(g.D);
  float w[kCount] = {}, dw[kCount] = {}, db[kCount] = {};
  if (active) load_parameters<kCount>(g.w, at, 1, w);
  const int64_t end = std::min(g.rows, (blockIdx.x + int64_t{1}) * g.each);
  for (int64_t row = blockIdx.x * g.each; row < end; ++row) {
    float x[kCount] = {}, dy[kCount] = {};
    if (active) {
      widen_run<kCount>(g.x + row * g.D + at, x);
      widen_run<kCount>(g.dy + row * g.D + at, dy);
    }
    float mean = 0;
    if constexpr (kCentered) {
      float sum[1] = {0};
#pragma unroll
      for (int k = 0; k < kCount; ++k) sum[0] += x[k];
      block_sums(sum);
      mean = sum[0] / count;
    }
    float sums[4] = {};
    if (active) add_run<kCount>(x, dy, w, mean, sums);
    block_sums(sums);
#pragma unroll
    for (float& sum : sums) sum /= count;
    const RowGradient gradient(mean, sums, kCentered, g.eps);
    if (!active) continue;
    float dx[kCount];
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      dx[k] = gradient.dx(x[k], dy[k], w[k]);
      dw[k] = fmaf(dy[k], gradient.normal(x[k]), dw[k]);
      db[k] += dy[k];
    }
    store_floats<kCount>(dx, g.dx + row * g.D + at);
  }
  if (!active) return;
  if (g.dw) store_floats<kCount>(dw, g.dw + blockIdx.x * g.D + at);
  if (g.db) store_floats<kCount>(db, g.db + blockIdx.x * g.D + at);
}

/// Rows of any length; dw and db are added up in memory, each element by one thread.
template <bool kCentered>
__global__ void long_rows_backward(Rows g) {
  const auto count = static_cast<double>(g.D);
  const int64_t begin = blockIdx.x * g.each, end = std::min(g.rows, begin + g.each);
  float *const dw = g.dw ? g.dw + blockIdx.x * g.D : nullptr, *const db =
                                                                  g.db ? g.db + blockIdx.x * g.D : nullptr;
  for (int64_t row = begin; row < end; ++row) {
    const float *const x = g.x + row * g.D, *const dy = g.dy + row * g.D;
    float mean = 0;
    if constexpr (kCentered) {
      double sum = 0;
      for (int64_t i = threadIdx.x; i < g.D; i += blockDim.x) sum += static_cast<double>(x[i]);
      mean = static_cast<float>(block_reduce<Plus>(sum, 0.0) / count);
    }
    double sums[4] = {};
    for (int64_t i = threadIdx.x; i < g.D; i += blockDim.x) {
      const float w = parameter_at(g.w, i, 1);
      float terms[4] = {};
      add_run<1>(x + i, dy + i, &w, mean, terms);
#pragma unroll
      for (int k = 0; k < 4; ++k) sums[k] += static_cast<double>(terms[k]);
    }
    float means[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) means[k] = static_cast<float>(block_reduce<Plus>(sums[k], 0.0) / count);
    const RowGradient gradient(mean, means, kCentered, g.eps);
    for (int64_t i = threadIdx.x; i < g.D; i += blockDim.x) {
      const float from = x[i], of = dy[i];
      g.dx[row * g.D + i] = gradient.dx(from, of, parameter_at(g.w, i, 1));
      if (dw) dw[i] = fmaf(of, gradient.normal(from), row == begin ? 0.0f : dw[i]);
      if (db) db[i] = of + (row == begin ? 0.0f : db[i]);
    }
  }
}

/// Up to two tables [rows, D] and where the sums of their columns go.
struct Columns {
  const float* parts[2];
  float* sums[2];
  int64_t rows, D;
};

/// 32 columns for a block of 32 x 32 threads.
__global__ void add_columns(Columns columns) {
  __shared__ double of_rows[32][33];
  const int column = static_cast<int>(threadIdx.x), part = static_cast<int>(threadIdx.y);
  const int64_t c = int64_t{blockIdx.x} * 32 + column;
  const float* const from = blockIdx.y == 0 ? columns.parts[0] : columns.parts[1];
  double sum = 0;
  if (c < columns.D) {
#pragma unroll 4
    for (int64_t row = part; row < columns.rows; row += 32)
      sum += static_cast<double>(from[row * columns.D + c]);
  }
  of_rows[part][column] = sum;
  __syncthreads();
  sum = warp_reduce<Plus>(of_rows[column][part]);  // this warp's column is `part`
  const int64_t mine = int64_t{blockIdx.x} * 32 + part;
  float* const to = blockIdx.y == 0 ? columns.sums[0] : columns.sums[1];
  if (column == 0 && mine < columns.D) to[mine] = static_cast<float>(sum);
}

void clear(Tensor& x) {
  if (x) check(cudaMemsetAsync(x.raw(), 0, x.bytes(), stream()), "clear");
}

template <bool kCentered>
void rows_backward_of(const Tensor& x, const Tensor& weight, float eps, const Tensor& dy, Tensor& dx,
                      Tensor& dw, Tensor& db) {
  if (x.numel() == 0) {
    clear(dw);
    clear(db);
    return;
  }
  constexpr int kCount = run_length(sizeof(float));
  const int64_t D = x.dim(-1), rows = x.numel() / D;
  Rows g{x.data<float>(), dy.data<float>(), dx.data<float>(), Parameters(weight), eps, rows, D, 1, {}, {}};
  const bool wide = D % kCount == 0 && D <= 1024 * kCount && aligned({g.x, g.dy, g.dx}, 16) &&
                    aligned_parameters<kCount>(g.w);
  const int64_t runs = wide ? D / kCount : D;
  const int threads = static_cast<int>(std::min<int64_t>(1024, ceil_div(runs, 32) * 32));
  // As many blocks as run at a time, and as few rows in f32 as on the CPU.
  const int64_t wanted = int64_t{limits().multiprocessors} * std::max(1, 1536 / threads);
  g.each = std::clamp<int64_t>(ceil_div(rows, wanted), 1, 64);
  const int64_t blocks = ceil_div(rows, g.each);
  Columns columns{{}, {}, blocks, D};
  unsigned tables = 0;
  Tensor parts[2];
  const auto table_of = [&](Tensor& sums) -> float* {
    if (!sums) return nullptr;
    parts[tables] = scratch(sizeof(float) * blocks * D);
    auto* const table = static_cast<float*>(parts[tables].raw());
    columns.parts[tables] = table;
    columns.sums[tables++] = sums.data<float>();
    return table;
  };
  g.dw = table_of(dw);
  g.db = table_of(db);
  const auto grid = static_cast<unsigned>(blocks);
  if (wide) {
    launch(rows_backward<kCount, kCentered>, grid, threads, 0, g);
  } else if (D <= 1024) {
    launch(rows_backward<1, kCentered>, grid, threads, 0, g);
  } else {
    launch(long_rows_backward<kCentered>, grid, 512, 0, g);
  }
  launch(add_columns, dim3(static_cast<unsigned>(ceil_div(D, 32)), tables), dim3(32, 32), 0, columns);
}

// Groups

/// Of a channel, over pixels: dy, and dy times x less the first number of the channel's group.
struct ChannelSums {
  double dy, along;
};

constexpr int kBackwardThreads = 256;

/// Where a block of the flat grid [N, chunks] is.
struct Chunk {
  int64_t picture, number;
};
__device__ Chunk chunk_of(const PixelGrid& grid) {
  return {blockIdx.x / static_cast<unsigned>(grid.chunks), blockIdx.x % static_cast<unsigned>(grid.chunks)};
}

/// parts as in group_statistics.h; of_channels [N, chunks, C].
template <int kCount>
__global__ void __launch_bounds__(kBackwardThreads)
    group_backward_sums(const float* x, const float* dy, PixelGrid grid, Moments2* parts,
                        ChannelSums* of_channels) {
  const int64_t C = grid.channels;
  const Chunk chunk = chunk_of(grid);
  const int strip = static_cast<int>(blockIdx.y), threads = grid.columns * grid.rows;
  const int t = static_cast<int>(threadIdx.x);
  const PixelPlace place = place_of<kCount>(grid, strip, chunk.number);
  auto* const shared = dynamic_shared<Moments2>();
  auto* const shared_channels = reinterpret_cast<ChannelSums*>(  // [kCount, threads]
      dynamic_shared<unsigned char>() + grid.shared_bytes(kCount));
  x += chunk.picture * grid.pixels * C;
  dy += chunk.picture * grid.pixels * C;
  if (place.active) {
    const RunSums<kCount> sums =
        sum_pixels<float, kCount>(x + place.channel, C, place.first, place.end, grid.rows);
    share_sums(sums, x, place.channel, grid, shared);
    float of_dy[kCount] = {}, along[kCount] = {};
    const float *from = x + place.first * C + place.channel, *of = dy + place.first * C + place.channel;
#pragma unroll 4
    for (int64_t p = place.first; p < place.end; p += grid.rows) {
      float a[kCount], v[kCount];
      widen_run<kCount>(from, a);
      widen_run<kCount>(of, v);
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        of_dy[k] += v[k];
        along[k] = fmaf(v[k], a[k] - sums.shift[k], along[k]);
      }
      from += C * grid.rows;
      of += C * grid.rows;
    }
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      const double first = static_cast<double>(x[(place.channel + k) / grid.width * grid.width]);
      const auto sum = static_cast<double>(of_dy[k]);
      shared_channels[k * threads + t] = {
          sum, static_cast<double>(along[k]) + (static_cast<double>(sums.shift[k]) - first) * sum};
    }
  }
  __syncthreads();
  write_parts<kCount>(shared, grid, place, strip, chunk.number, parts + chunk.picture * part_count(grid, 1));
  for (int c = t; c < place.count; c += static_cast<int>(blockDim.x)) {
    ChannelSums all{0, 0};
    for (int row = 0; row < grid.rows; ++row) {
      const ChannelSums part = shared_channels[c % kCount * threads + row * grid.columns + c / kCount];
      all.dy += part.dy;
      all.along += part.along;
    }
    of_channels[blockIdx.x * C + place.begin + c] = all;
  }
}

/// A block for each group of each picture: what its channels' pixels need, channels [N,4,C], and its part of
/// the gradients, sums [N,C], dw's in `along`.
template <int kCount>
__global__ void finish_group_backward(const float* x, PixelGrid grid, int groups, Parameters w, float eps,
                                      const Moments2* parts, const ChannelSums* of_channels, float* channels,
                                      ChannelSums* sums) {
  const int64_t n = blockIdx.x / static_cast<unsigned>(groups), C = grid.channels;
  const int g = static_cast<int>(blockIdx.x % static_cast<unsigned>(groups));
  const int from = g * grid.width, to = from + grid.width, t = static_cast<int>(threadIdx.x);
  const int lane = t % 32, warp = t / 32, warps = static_cast<int>(blockDim.x) / 32;
  const double count = static_cast<double>(grid.pixels) * grid.width;
  of_channels += n * grid.chunks * C;
  channels += n * 4 * C;
  sums += n * C;

  Moments2 all = add_parts<kCount>(parts + n * part_count(grid, 1), grid, g, t, static_cast<int>(blockDim.x));
  all = {block_reduce<Plus>(all.sum, 0.0), block_reduce<Plus>(all.square, 0.0)};
  const GroupStatistics group =
      statistics_of(all, static_cast<double>(x[n * grid.pixels * C + from]), count, eps);
  const double away = all.sum / count, r = group.factor;

  double s1 = 0, s2 = 0;
  for (int c = from + warp; c < to; c += warps) {
    ChannelSums sum{0, 0};
    for (int i = lane; i < grid.chunks; i += 32) {
      sum.dy += of_channels[i * C + c].dy;
      sum.along += of_channels[i * C + c].along;
    }
    sum = {warp_reduce<Plus>(sum.dy), warp_reduce<Plus>(sum.along)};
    sum.along = r * (sum.along - away * sum.dy);
    if (lane > 0) continue;
    sums[c] = sum;
    const auto weight = static_cast<double>(parameter_at(w, c, 1));
    s1 += weight * sum.dy;
    s2 += weight * sum.along;
  }
  s1 = block_reduce<Plus>(s1, 0.0) / count;
  s2 = block_reduce<Plus>(s2, 0.0) / count;

  const auto center = static_cast<float>(group.mean);
  const double rest = group.mean - static_cast<double>(center);
  for (int c = from + t; c < to; c += static_cast<int>(blockDim.x)) {
    channels[c] = center;
    channels[C + c] = static_cast<float>(r * static_cast<double>(parameter_at(w, c, 1)));
    channels[2 * C + c] = static_cast<float>(-r * r * s2);
    channels[3 * C + c] = static_cast<float>(r * r * s2 * rest - r * s1);
  }
}

/// dx = dy * scale + ((x - center) * slope + offset)
template <int kCount>
__global__ void __launch_bounds__(kBackwardThreads)
    pixels_backward(const float* x, const float* dy, PixelGrid grid, const float* channels, float* dx) {
  const int64_t C = grid.channels;
  const Chunk chunk = chunk_of(grid);
  const PixelPlace place = place_of<kCount>(grid, static_cast<int>(blockIdx.y), chunk.number);
  if (!place.active) return;
  float center[kCount], scale[kCount], slope[kCount], offset[kCount];
  channels += chunk.picture * 4 * C + place.channel;
  widen_run<kCount>(channels, center);
  widen_run<kCount>(channels + C, scale);
  widen_run<kCount>(channels + 2 * C, slope);
  widen_run<kCount>(channels + 3 * C, offset);
  int64_t at = (chunk.picture * grid.pixels + place.first) * C + place.channel;
#pragma unroll 4
  for (int64_t p = place.first; p < place.end; p += grid.rows, at += C * grid.rows) {
    float a[kCount], v[kCount];
    widen_run<kCount>(x + at, a);
    widen_run<kCount>(dy + at, v);
#pragma unroll
    for (int k = 0; k < kCount; ++k) v[k] = fmaf(v[k], scale[k], fmaf(a[k] - center[k], slope[k], offset[k]));
    store_floats<kCount>(v, dx + at);
  }
}

/// dw and db, each may be null, from sums [N,C].
__global__ void add_pictures(const ChannelSums* sums, int64_t N, int64_t C, float* dw, float* db) {
  const int64_t c = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (c >= C) return;
  ChannelSums all{0, 0};
  for (int64_t n = 0; n < N; ++n) {
    all.dy += sums[n * C + c].dy;
    all.along += sums[n * C + c].along;
  }
  if (dw) dw[c] = static_cast<float>(all.along);
  if (db) db[c] = static_cast<float>(all.dy);
}

template <int kCount>
void groups_backward(const Tensor& x, int groups, const Parameters& w, float eps, const Tensor& dy,
                     Tensor& dx, Tensor& dw, Tensor& db) {
  const int64_t N = x.dim(0), C = x.dim(-1), P = x.numel() / (N * C);
  const PixelGrid grid = pixel_grid(P, C, groups, kCount, kBackwardThreads, 16);
  Tensor parts = scratch(sizeof(Moments2) * part_count(grid, N));
  Tensor of_channels = scratch(sizeof(ChannelSums) * N * grid.chunks * C);
  Tensor channels = scratch(sizeof(float) * N * 4 * C), sums = scratch(sizeof(ChannelSums) * N * C);
  auto* const parts_at = static_cast<Moments2*>(parts.raw());
  auto* const of_channels_at = static_cast<ChannelSums*>(of_channels.raw());
  auto* const channels_at = static_cast<float*>(channels.raw());
  auto* const sums_at = static_cast<ChannelSums*>(sums.raw());
  const dim3 blocks(static_cast<unsigned>(N * grid.chunks), static_cast<unsigned>(grid.strips));
  const size_t shared = grid.shared_bytes(kCount) + sizeof(ChannelSums) * grid.columns * grid.rows * kCount;
  launch(group_backward_sums<kCount>, blocks, grid.threads(), shared, x.data<float>(), dy.data<float>(), grid,
         parts_at, of_channels_at);
  launch(finish_group_backward<kCount>, static_cast<unsigned>(N * groups), 128, 0, x.data<float>(), grid,
         groups, w, eps, parts_at, of_channels_at, channels_at, sums_at);
  if (dw || db)
    launch(add_pictures, static_cast<unsigned>(ceil_div(C, 128)), 128, 0, sums_at, N, C,
           static_cast<float*>(dw.raw()), static_cast<float*>(db.raw()));
  launch(pixels_backward<kCount>, blocks, grid.threads(), 0, x.data<float>(), dy.data<float>(), grid,
         channels_at, dx.data<float>());
}

/// backward(x, dy, dx) in f32, from and to what they are.
template <class Backward>
void in_f32(const Tensor& x, const Tensor& dy, Tensor& dx, const Backward& backward) {
  if (x.dtype() == DType::F32) return backward(x, dy, dx);
  Kernels& device = kernels(x.device());
  const auto wide = [&](const Tensor& from) {
    Tensor to = Tensor::empty(from.shape(), DType::F32, from.device());
    device.convert(from, to);
    return to;
  };
  Tensor wide_dx = Tensor::empty(dx.shape(), DType::F32, dx.device());
  backward(wide(x), wide(dy), wide_dx);
  device.convert(wide_dx, dx);
}

}  // namespace
}  // namespace cuda

void CudaKernels::layer_norm_backward(const Tensor& x, const Tensor& w, float eps, const Tensor& dy,
                                      Tensor& dx, Tensor& dw, Tensor& db) {
  cuda::in_f32(x, dy, dx, [&](const Tensor& wide_x, const Tensor& wide_dy, Tensor& wide_dx) {
    cuda::rows_backward_of<true>(wide_x, w, eps, wide_dy, wide_dx, dw, db);
  });
}

void CudaKernels::rms_norm_backward(const Tensor& x, const Tensor& w, float eps, const Tensor& dy, Tensor& dx,
                                    Tensor& dw) {
  Tensor none;
  cuda::in_f32(x, dy, dx, [&](const Tensor& wide_x, const Tensor& wide_dy, Tensor& wide_dx) {
    cuda::rows_backward_of<false>(wide_x, w, eps, wide_dy, wide_dx, dw, none);
  });
}

void CudaKernels::group_norm_backward(const Tensor& x, int groups, const Tensor& w, float eps,
                                      const Tensor& dy, Tensor& dx, Tensor& dw, Tensor& db) {
  using namespace cuda;
  if (x.numel() == 0) {
    clear(dw);
    clear(db);
    return;
  }
  in_f32(x, dy, dx, [&](const Tensor& wide_x, const Tensor& wide_dy, Tensor& wide_dx) {
    constexpr int kCount = run_length(sizeof(float));
    if (x.dim(-1) % kCount == 0 && aligned({wide_x.raw(), wide_dy.raw(), wide_dx.raw()}, 16)) {
      groups_backward<kCount>(wide_x, groups, Parameters(w), eps, wide_dy, wide_dx, dw, db);
    } else {
      groups_backward<1>(wide_x, groups, Parameters(w), eps, wide_dy, wide_dx, dw, db);
    }
  });
}

}  // namespace sinopia
