#include "sinopia/backend/cuda/activations.h"
#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/backend/cuda/group_statistics.h"

namespace sinopia {
namespace cuda {
namespace {

// y = activation((x - center) * scale + shift), three numbers a channel. The mean is taken off in two parts,
// its f32 value and, within the shift, the rest: beside a large mean the result is as good as x.

/// Pictures of one launch, each of which has a place where its blocks are counted.
constexpr int64_t kPictures = 1024;
/// How many blocks of a picture have their sums ready; 0 again once all have.
__device__ unsigned ready[kPictures];

/// Bytes of a picture's neighbouring groups that one block norms by itself: it reads them twice, from memory
/// and from the cache beside it.
constexpr int64_t kCachedBytes = 128 << 10;
constexpr int kSmallThreads = 768;
constexpr int64_t kSmallStrip = 1280;  ///< channels, whose numbers fit into shared memory beside the sums
/// Less than this of each pixel would waste what memory is read in.
constexpr int64_t kSectorBytes = 32;

struct Scaling {
  Parameters w, b;
  float eps;
};

template <class T, Activation kActivation>
struct Known {
  __device__ float operator()(float v) const { return activate<kActivation, T>(v); }
};
template <class T>
struct Chosen {
  Activation activation;
  __device__ float operator()(float v) const { return activate<T>(activation, v); }
};

/// The three numbers of the channels from..to of a group, by a whole warp; rows of `stride`, channel 0 first.
__device__ void scale_channels(const GroupStatistics& group, const Scaling& scaling, int from, int to,
                               float* channels, int64_t stride) {
  const auto center = static_cast<float>(group.mean);
  const double rest = group.mean - static_cast<double>(center);
  for (int c = from + static_cast<int>(threadIdx.x) % 32; c < to; c += 32) {
    const double a = group.factor * static_cast<double>(parameter_at(scaling.w, c, 1));
    channels[c] = center;
    channels[stride + c] = static_cast<float>(a);
    channels[2 * stride + c] =
        static_cast<float>(static_cast<double>(parameter_at(scaling.b, c, 0)) - rest * a);
  }
}

/// The pixels first, first + step, .. below `end`; x and y are at the channels of pixel 0.
template <class T, int kCount, class Activate>
__device__ void normalise_pixels(const T* x, int64_t C, int64_t first, int64_t end, int step,
                                 const float* channels, int64_t stride, Activate activate, T* y) {
  float center[kCount], scale[kCount], shift[kCount];
  constexpr int kPart = kCount < 4 ? kCount : 4;
#pragma unroll
  for (int i = 0; i < kCount; i += kPart) {
    widen_run<kPart>(channels + i, center + i);
    widen_run<kPart>(channels + stride + i, scale + i);
    widen_run<kPart>(channels + 2 * stride + i, shift + i);
  }
  const auto norm = [&](const Run<T, kCount>& run, T* to) {
    Run<T, kCount> out;
#pragma unroll
    for (int k = 0; k < kCount; ++k)
      out.values[k] = narrow_to<T>(activate(fmaf(widen(run.values[k]) - center[k], scale[k], shift[k])));
    store_run(to, out);
  };
  const int64_t jump = C * step;
  x += first * C;
  y += first * C;
  Run<T, kCount> batch[kPixelBatch];
  for (; first + int64_t{kPixelBatch - 1} * step < end; first += int64_t{kPixelBatch} * step) {
#pragma unroll
    for (int i = 0; i < kPixelBatch; ++i) batch[i] = load_run<T, kCount>(x + i * jump);
#pragma unroll
    for (int i = 0; i < kPixelBatch; ++i) norm(batch[i], y + i * jump);
    x += kPixelBatch * jump;
    y += kPixelBatch * jump;
  }
  for (; first < end; first += step) {
    norm(load_run<T, kCount>(x), y);
    x += jump;
    y += jump;
  }
}

/// The sums of each chunk of pixels; the last block of a picture adds them and writes the three numbers of
/// each channel, [N,3,C].
template <class T, int kCount>
__global__ void __launch_bounds__(kPixelThreads)
    group_sums(const T* x, PixelGrid grid, int groups, Scaling scaling, Moments2* parts, float* channels) {
  const int warp = static_cast<int>(threadIdx.x) / 32, warps = static_cast<int>(blockDim.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32, strip = static_cast<int>(blockIdx.y);
  const auto n = static_cast<int64_t>(blockIdx.z);
  const PixelPlace place = place_of<kCount>(grid, strip, blockIdx.x);
  auto* const shared = dynamic_shared<Moments2>();
  x += n * grid.pixels * grid.channels;
  parts += n * part_count(grid, 1);
  if (place.active) {
    const RunSums<kCount> sums =
        sum_pixels<T, kCount>(x + place.channel, grid.channels, place.first, place.end, grid.rows);
    share_sums(sums, x, place.channel, grid, shared);
  }
  __syncthreads();
  write_parts<kCount>(shared, grid, place, strip, blockIdx.x, parts);

  __shared__ bool last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(&ready[n], 1u) + 1 == gridDim.x * gridDim.y;
  __syncthreads();
  if (!last) return;
  __threadfence();
  if (threadIdx.x == 0) ready[n] = 0;
  for (int g = warp; g < groups; g += warps) {
    const int from = g * grid.width, to = from + grid.width;
    Moments2 all = add_parts<kCount>(parts, grid, g, lane, 32);
    all = {warp_reduce<Plus>(all.sum), warp_reduce<Plus>(all.square)};
    const GroupStatistics statistics = statistics_of(
        all, static_cast<double>(widen(x[from])), static_cast<double>(grid.pixels) * grid.width, scaling.eps);
    scale_channels(statistics, scaling, from, to, channels + n * 3 * grid.channels, grid.channels);
  }
}

/// From the last pixels to the first: the sums have just read those.
template <class T, int kCount, class Activate>
__global__ void __launch_bounds__(kPixelThreads)
    normalise(const T* x, PixelGrid grid, const float* channels, Activate activate, T* y) {
  const int64_t n = gridDim.z - 1 - blockIdx.z, C = grid.channels, picture = n * grid.pixels * C;
  const PixelPlace place = place_of<kCount>(grid, static_cast<int>(blockIdx.y), gridDim.x - 1 - blockIdx.x);
  if (!place.active) return;
  normalise_pixels<T, kCount>(x + picture + place.channel, C, place.first, place.end, grid.rows,
                              channels + n * 3 * C + place.channel, C, activate, y + picture + place.channel);
}

/// All at once: a block has all pixels of a few whole groups.
template <class T, int kCount, class Activate>
__global__ void __launch_bounds__(kSmallThreads)
    norm_groups(const T* x, PixelGrid grid, Scaling scaling, Activate activate, T* y) {
  const int warp = static_cast<int>(threadIdx.x) / 32, warps = static_cast<int>(blockDim.x) / 32;
  const int64_t picture = blockIdx.x / grid.strips * grid.pixels * grid.channels;
  const PixelPlace place = place_of<kCount>(grid, static_cast<int>(blockIdx.x % grid.strips), 0);
  x += picture;
  y += picture;
  auto* const shared = dynamic_shared<Moments2>();
  auto* const channels =  // [3, channels of the strip]
      reinterpret_cast<float*>(dynamic_shared<unsigned char>() + grid.shared_bytes(kCount));
  const int stride = grid.columns * kCount;
  if (place.active) {
    const RunSums<kCount> sums =
        sum_pixels<T, kCount>(x + place.channel, grid.channels, place.first, place.end, grid.rows);
    share_sums(sums, x, place.channel, grid, shared);
  }
  __syncthreads();
  for (int from = place.begin + warp * grid.width; from < place.begin + place.count;
       from += warps * grid.width) {
    const Moments2 sum = sum_of_group<kCount>(shared, grid, from / grid.width, place.begin, place.count);
    const GroupStatistics statistics = statistics_of(
        sum, static_cast<double>(widen(x[from])), static_cast<double>(grid.pixels) * grid.width, scaling.eps);
    scale_channels(statistics, scaling, from, from + grid.width, channels - place.begin, stride);
  }
  __syncthreads();
  if (!place.active) return;
  normalise_pixels<T, kCount>(x + place.channel, grid.channels, place.first, place.end, grid.rows,
                              channels + place.channel - place.begin, stride, activate, y + place.channel);
}

/// The grid of norm_groups; without columns where the groups are too large for it.
template <class T>
PixelGrid small_grid(int64_t P, int64_t C, int groups, int count) {
  PixelGrid grid = pixel_grid(P, C, groups, count);
  int64_t strip = std::lcm<int64_t>(grid.width, count);
  strip = std::min(C, strip * ceil_div(kSectorBytes, strip * static_cast<int64_t>(sizeof(T))));
  const int64_t columns = strip / count, threads = threads_of_sums(kSmallThreads, count / grid.merged);
  if (P * strip * static_cast<int64_t>(sizeof(T)) > kCachedBytes || columns > threads || strip > kSmallStrip)
    return {};
  grid.columns = static_cast<int>(columns);
  grid.rows = static_cast<int>(std::min(threads / columns, P));
  grid.strips = static_cast<int>(ceil_div(C, strip));
  grid.chunk = P;
  grid.chunks = 1;
  return grid;
}

template <class T, int kCount, class Activate>
void group_norm_of(const T* x, int64_t N, int64_t P, int64_t C, int groups, const Scaling& scaling,
                   Activate activate, T* y) {
  const PixelGrid small = small_grid<T>(P, C, groups, kCount);
  if (small.columns > 0) {
    const size_t shared = small.shared_bytes(kCount) + sizeof(float) * 3 * small.columns * kCount;
    launch(norm_groups<T, kCount, Activate>, dim3(static_cast<unsigned>(N * small.strips)), small.threads(),
           shared, x, small, scaling, activate, y);
    return;
  }
  const PixelGrid grid = pixel_grid(P, C, groups, kCount);
  const int64_t pictures = std::min(N, kPictures);
  Tensor parts = scratch(sizeof(Moments2) * part_count(grid, pictures));
  Tensor channels = scratch(sizeof(float) * pictures * 3 * C);
  auto* const parts_at = static_cast<Moments2*>(parts.raw());
  auto* const channels_at = static_cast<float*>(channels.raw());
  for (int64_t n = 0; n < N; n += kPictures) {
    const dim3 blocks(grid.chunks, grid.strips, static_cast<unsigned>(std::min(N - n, kPictures)));
    const T* const from = x + n * P * C;
    launch(group_sums<T, kCount>, blocks, grid.threads(), grid.shared_bytes(kCount), from, grid, groups,
           scaling, parts_at, channels_at);
    launch(normalise<T, kCount, Activate>, blocks, grid.threads(), 0, from, grid, channels_at, activate,
           y + n * P * C);
  }
}

/// f(what computes the activation): those of the models' norms are compiled by themselves.
template <class T, class F>
void for_activation(Activation activation, F&& f) {
  switch (activation) {
    case Activation::None:
      return f(Known<T, Activation::None>{});
    case Activation::Silu:
      return f(Known<T, Activation::Silu>{});
    default:
      return f(Chosen<T>{activation});
  }
}

}  // namespace
}  // namespace cuda

void CudaKernels::group_norm(const Tensor& x, int groups, const Tensor& w, const Tensor& b, float eps,
                             Activation activation, Tensor& y) {
  if (x.numel() == 0) return;
  using namespace cuda;
  const int64_t N = x.dim(0), C = x.dim(-1), P = x.numel() / (N * C);
  const Scaling scaling{Parameters(w), Parameters(b), eps};
  for_float(x.dtype(), [&](auto t) {
    using T = decltype(t);
    constexpr int kCount = run_length(sizeof(T));
    const auto* const from = static_cast<const T*>(x.raw());
    auto* const to = static_cast<T*>(y.raw());
    for_activation<T>(activation, [&](auto activate) {
      if (C % kCount == 0 && aligned({from, to}, 16)) {
        group_norm_of<T, kCount>(from, N, P, C, groups, scaling, activate, to);
      } else {
        group_norm_of<T, 1>(from, N, P, C, groups, scaling, activate, to);
      }
    });
  });
}

}  // namespace sinopia
