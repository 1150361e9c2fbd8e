#include <cmath>
#include <limits>
#include <vector>

#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/backend/cuda/map.h"
#include "sinopia/backend/cuda/parameters.h"
#include "sinopia/backend/cuda/reductions.h"

namespace sinopia {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBatch = 4;  ///< runs that a thread reads at once

/// body(element) for this thread's share of x[begin..end), `begin` a multiple of kCount.
template <int kCount, class T, class Body>
__device__ void for_elements(const T* x, int64_t begin, int64_t end, const Body& body) {
  const int64_t step = int64_t{blockDim.x} * kCount;
  int64_t i = begin + int64_t{threadIdx.x} * kCount;
  const auto of_run = [&](const Run<T, kCount>& run) {
#pragma unroll
    for (int k = 0; k < kCount; ++k) body(widen(run.values[k]));
  };
  for (; i + (kBatch - 1) * step + kCount <= end; i += kBatch * step) {
    Run<T, kCount> batch[kBatch];
#pragma unroll
    for (int r = 0; r < kBatch; ++r) batch[r] = load_run<T, kCount>(x + i + r * step);
#pragma unroll
    for (int r = 0; r < kBatch; ++r) of_run(batch[r]);
  }
  for (; i + kCount <= end; i += step) of_run(load_run<T, kCount>(x + i));
  if (kCount > 1)
    for (; i < end; ++i) body(widen(x[i]));
}

/// How many blocks share `count` elements, and how many of these, whole runs, one has.
struct Shares {
  int blocks;
  int64_t each;
};
Shares shares_of(int64_t count, int run) {
  const int64_t runs = ceil_div(count, run), most = int64_t{4} * limits().multiprocessors;
  const int64_t blocks = std::clamp<int64_t>(ceil_div(runs, kThreads * 2 * kBatch), 1, most);
  const int64_t each = std::max<int64_t>(1, ceil_div(runs, blocks));
  return {static_cast<int>(std::max<int64_t>(1, ceil_div(runs, each))), each * run};
}

/// f(count of neighbours read at once) as a constant, for rows of `row` elements from x on.
template <class T, class F>
void for_run_length(const T* x, int64_t row, F&& f) {
  constexpr int kCount = run_length(sizeof(T));
  if (row % kCount == 0 && aligned({x}, 16)) {
    f(std::integral_constant<int, kCount>{});
  } else {
    f(std::integral_constant<int, 1>{});
  }
}

struct SumAndSquare {
  double sum, square;
};

/// What is taken off the elements of a row before they are summed: one of them, so that squares stay as exact
/// as the row is.
template <class T>
__device__ double row_shift(const T* row) {
  const float first = widen(row[0]);
  return fabsf(first) < INFINITY ? static_cast<double>(first) : 0.0;
}

/// parts [N, blocks of a row]
template <int kCount, class T>
__global__ void moment_parts(const T* x, int64_t count, int blocks, int64_t each, SumAndSquare* parts) {
  const int64_t begin = blockIdx.x % blocks * each;
  x += blockIdx.x / blocks * count;
  const double shift = row_shift(x);
  double sum = 0, square = 0;
  for_elements<kCount>(x, begin, std::min(begin + each, count), [&](float value) {
    const double v = static_cast<double>(value) - shift;
    sum += v;
    square = fma(v, v, square);
  });
  sum = block_reduce<Plus>(sum, 0.0);
  square = block_reduce<Plus>(square, 0.0);
  if (threadIdx.x == 0) parts[blockIdx.x] = {sum, square};
}

/// A warp for each row.
template <class T>
__global__ void finish_moments(const SumAndSquare* parts, int blocks, const T* x, int64_t count,
                               int correction, T* mean, T* variance) {
  const int64_t row = blockIdx.x;
  double sum = 0, square = 0;
  for (int i = static_cast<int>(threadIdx.x); i < blocks; i += 32) {
    sum += parts[row * blocks + i].sum;
    square += parts[row * blocks + i].square;
  }
  sum = warp_reduce<Plus>(sum);
  square = warp_reduce<Plus>(square);
  if (threadIdx.x > 0) return;
  const auto n = static_cast<double>(count);
  const double squares = square - sum * (sum / n);
  const double shift = count > 0 ? row_shift(x + row * count) : 0.0;
  mean[row] = narrow_to<T>(static_cast<float>(shift + sum / n));
  variance[row] =
      narrow_to<T>(count > correction ? static_cast<float>((squares < 0 ? 0 : squares) / (n - correction))
                                      : std::numeric_limits<float>::quiet_NaN());
}

/// parts [blocks]
template <int kCount, class T>
__global__ void square_parts(const T* x, int64_t count, int64_t each, double* parts) {
  const int64_t begin = blockIdx.x * each;
  double square = 0;
  for_elements<kCount>(x, begin, std::min(begin + each, count), [&](float value) {
    const auto v = static_cast<double>(value);
    square = fma(v, v, square);
  });
  square = block_reduce<Plus>(square, 0.0);
  if (threadIdx.x == 0) parts[blockIdx.x] = square;
}

/// found [blocks]: whether there is a NaN or an infinity.
template <int kCount, class T>
__global__ void find_not_finite(const T* x, int64_t count, int64_t each, int* found) {
  const int64_t begin = blockIdx.x * each;
  constexpr unsigned kExponent = 0x7f800000u;
  bool any = false;
  for_elements<kCount>(x, begin, std::min(begin + each, count),
                       [&](float value) { any |= (__float_as_uint(value) & kExponent) == kExponent; });
  any = __syncthreads_or(any) != 0;
  if (threadIdx.x == 0) found[blockIdx.x] = any;
}

/// A block for each row. A number and its place become an integer that is larger where the number is, or
/// where it is equal and the place smaller; NaN is smaller than all.
template <int kCount, class T>
__global__ void find_row_max(const T* x, int64_t D, T* value, int32_t* place) {
  x += blockIdx.x * D;
  unsigned long long best = 0;
  for (int64_t i = int64_t{threadIdx.x} * kCount; i < D; i += int64_t{blockDim.x} * kCount) {
    const Run<T, kCount> run = load_run<T, kCount>(x + i);
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      const float v = widen(run.values[k]) + 0.0f;  // both zeros are equal
      if (v != v) continue;
      const unsigned bits = __float_as_uint(v), sign = bits >> 31;
      const unsigned ordered = bits ^ (sign ? 0xffffffffu : 0x80000000u);
      const unsigned long long key =
          static_cast<unsigned long long>(ordered) << 32 | (0xffffffffu - static_cast<unsigned>(i + k));
      best = key > best ? key : best;
    }
  }
  best = block_reduce<Larger>(best, 0ull);
  if (threadIdx.x > 0) return;
  const float first = widen(x[0]);  // nothing is larger than a NaN
  const int at = first != first ? 0 : static_cast<int>(0xffffffffu - static_cast<unsigned>(best));
  value[blockIdx.x] = x[at];
  place[blockIdx.x] = at;
}

/// A block for kThreads channels of each group: it looks for the group's rows and adds them as they come.
template <class T>
__global__ void mean_of_groups(const T* x, const int32_t* group, int64_t rows, int64_t C, int64_t groups,
                               T* y) {
  __shared__ int found[kThreads];
  __shared__ int found_of_warp[kThreads / 32];
  const int t = static_cast<int>(threadIdx.x), lane = t % 32, warp = t / 32;
  const int64_t batch = blockIdx.x / groups, m = blockIdx.x % groups;
  const int64_t c = int64_t{blockIdx.y} * kThreads + t;
  x += batch * rows * C;
  group += batch * rows;
  float sum = 0;
  int64_t count = 0;
  for (int64_t first = 0; first < rows; first += kThreads) {
    const bool mine = first + t < rows && group[first + t] == m;
    const int here = __syncthreads_count(mine);
    if (here == 0) continue;
    const unsigned votes = __ballot_sync(0xffffffffu, mine);
    if (lane == 0) found_of_warp[warp] = __popc(votes);
    __syncthreads();
    if (mine) {
      int at = __popc(votes & ((1u << lane) - 1));
      for (int i = 0; i < warp; ++i) at += found_of_warp[i];
      found[at] = t;
    }
    __syncthreads();
    if (c < C)
      for (int i = 0; i < here; ++i) sum += widen(x[(first + found[i]) * C + c]);
    count += here;
  }
  if (c < C) y[blockIdx.x * C + c] = narrow_to<T>(sum / static_cast<float>(count > 0 ? count : 1));
}

}  // namespace
}  // namespace cuda

void CudaKernels::moments(const Tensor& x, int correction, Tensor& mean, Tensor& variance) {
  using namespace cuda;
  const int64_t N = mean.numel(), count = N > 0 ? x.numel() / N : 0;
  if (N == 0) return;
  for_float(x.dtype(), [&](auto t) {
    using T = decltype(t);
    const auto* const from = static_cast<const T*>(x.raw());
    for_run_length(from, count, [&](auto run) {
      const Shares shares = shares_of(count, run.value);
      const int blocks = count > 0 ? shares.blocks : 0;
      Tensor parts = scratch(sizeof(SumAndSquare) * N * shares.blocks);
      auto* const parts_at = static_cast<SumAndSquare*>(parts.raw());
      launch(moment_parts<decltype(run)::value, T>, static_cast<unsigned>(N * blocks), kThreads, 0, from,
             count, blocks, shares.each, parts_at);
      launch(finish_moments<T>, static_cast<unsigned>(N), 32, 0, parts_at, blocks, from, count, correction,
             static_cast<T*>(mean.raw()), static_cast<T*>(variance.raw()));
    });
  });
}

double CudaKernels::sum_of_squares(const Tensor& x) {
  using namespace cuda;
  if (x.numel() == 0) return 0;
  double total = 0;
  for_float(x.dtype(), [&](auto t) {
    using T = decltype(t);
    const auto* const from = static_cast<const T*>(x.raw());
    for_run_length(from, 0, [&](auto run) {
      const Shares shares = shares_of(x.numel(), run.value);
      std::vector<double> parts(static_cast<size_t>(shares.blocks));
      Tensor there = scratch(sizeof(double) * parts.size());
      launch(square_parts<decltype(run)::value, T>, static_cast<unsigned>(shares.blocks), kThreads, 0, from,
             x.numel(), shares.each, static_cast<double*>(there.raw()));
      to_host(parts.data(), there.raw(), sizeof(double) * parts.size());
      for (const double part : parts) total += part;
    });
  });
  return total;
}

bool CudaKernels::all_finite(const Tensor& x) {
  using namespace cuda;
  if (x.numel() == 0) return true;
  bool finite = true;
  for_float(x.dtype(), [&](auto t) {
    using T = decltype(t);
    const auto* const from = static_cast<const T*>(x.raw());
    for_run_length(from, 0, [&](auto run) {
      const Shares shares = shares_of(x.numel(), run.value);
      std::vector<int> found(static_cast<size_t>(shares.blocks));
      Tensor there = scratch(sizeof(int) * found.size());
      launch(find_not_finite<decltype(run)::value, T>, static_cast<unsigned>(shares.blocks), kThreads, 0,
             from, x.numel(), shares.each, static_cast<int*>(there.raw()));
      to_host(found.data(), there.raw(), sizeof(int) * found.size());
      for (const int f : found) finite = finite && f == 0;
    });
  });
  return finite;
}

void CudaKernels::row_max(const Tensor& x, Tensor& value, Tensor& place) {
  if (x.numel() == 0) return;
  using namespace cuda;
  const int64_t D = x.dim(-1), rows = x.numel() / D;
  for_float(x.dtype(), [&](auto t) {
    using T = decltype(t);
    const auto* const from = static_cast<const T*>(x.raw());
    for_run_length(from, D, [&](auto run) {
      const int threads =
          static_cast<int>(std::clamp<int64_t>(ceil_div(D, 4 * 32 * run.value) * 32, 32, 512));
      launch(find_row_max<decltype(run)::value, T>, static_cast<unsigned>(rows), threads, 0, from, D,
             static_cast<T*>(value.raw()), static_cast<int32_t*>(place.raw()));
    });
  });
}

void CudaKernels::group_mean(const Tensor& x, const Tensor& group, Tensor& y) {
  if (y.numel() == 0) return;
  using namespace cuda;
  const int64_t B = y.dim(0), M = y.dim(1), C = y.dim(2);
  for_float(x.dtype(), [&](auto t) {
    using T = decltype(t);
    launch(mean_of_groups<T>,
           dim3(static_cast<unsigned>(B * M), static_cast<unsigned>(ceil_div(C, kThreads))), kThreads, 0,
           static_cast<const T*>(x.raw()), static_cast<const int32_t*>(group.raw()), x.dim(1), C, M,
           static_cast<T*>(y.raw()));
  });
}

}  // namespace sinopia
