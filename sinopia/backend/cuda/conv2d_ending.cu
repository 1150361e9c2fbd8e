#include <algorithm>

#include "sinopia/backend/cuda/activations.h"
#include "sinopia/backend/cuda/conv2d_ending.h"
#include "sinopia/backend/cuda/elements.h"
#include "sinopia/backend/cuda/runtime.h"

namespace sinopia::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPixels = 4;  // of a thread, so that several reads are under way

bool aligned(const void* x, size_t bytes) { return reinterpret_cast<uintptr_t>(x) % bytes == 0; }

/// What is added, or null; add's rows are those of y or, with `pixels_per_add` > 1, of images.
template <class T, class B>
struct Ending {
  const B* bias;
  const T* add;
  unsigned pixels_per_add;
  Activation activation;
};

/// A thread finishes the same kRun channels of kPixels pixels. Threads of x lie along the channels.
template <int kRun, class T, class B>
__global__ void __launch_bounds__(kThreads) finish(Ending<T, B> ending, unsigned pixels, int64_t O, T* y) {
  using Values = Run<T, kRun>;
  const int64_t o = (int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * kRun;
  if (o >= O) return;
  float bias[kRun] = {};
  if (ending.bias) {
#pragma unroll
    for (int i = 0; i < kRun; ++i) bias[i] = widen(ending.bias[o + i]);
  }
  const unsigned first = blockIdx.x * blockDim.y * kPixels + threadIdx.y;
  Values values[kPixels], added[kPixels];
#pragma unroll
  for (unsigned k = 0; k < kPixels; ++k) {
    const unsigned pixel = first + k * blockDim.y;
    if (pixel >= pixels) break;
    values[k] = *reinterpret_cast<const Values*>(y + int64_t{pixel} * O + o);
    if (ending.add)
      added[k] =
          *reinterpret_cast<const Values*>(ending.add + int64_t{pixel / ending.pixels_per_add} * O + o);
  }
#pragma unroll
  for (unsigned k = 0; k < kPixels; ++k) {
    const unsigned pixel = first + k * blockDim.y;
    if (pixel >= pixels) break;
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      float value = widen(values[k].values[i]) + bias[i];
      if (ending.add) value += widen(added[k].values[i]);
      values[k].values[i] = narrow_to<T>(activate<T>(ending.activation, value));
    }
    *reinterpret_cast<Values*>(y + int64_t{pixel} * O + o) = values[k];
  }
}

template <int kRun, class T, class B>
void launch_finish(const Ending<T, B>& ending, int64_t pixels, int64_t O, T* y) {
  const int64_t runs = ceil_div(O, kRun), parts = ceil_div(runs, kThreads), x = ceil_div(runs, parts);
  const int64_t rows = kThreads / x;
  const dim3 grid(static_cast<unsigned>(ceil_div(pixels, rows * kPixels)), static_cast<unsigned>(parts));
  launch(finish<kRun, T, B>, grid, dim3(static_cast<unsigned>(x), static_cast<unsigned>(rows)), 0, ending,
         static_cast<unsigned>(pixels), O, y);
}

struct Extents {
  unsigned height, width;
  int64_t channels;  // in units
};

/// A block walks along rows of `to`; blockIdx.y and z are the row and the image.
template <class Unit>
__global__ void __launch_bounds__(kThreads)
    cut(const Unit* from, Extents outer, int64_t top, int64_t left, Unit* to, Extents inner, unsigned N) {
  const int64_t row = int64_t{inner.width} * inner.channels;
  for (unsigned n = blockIdx.z; n < N; n += gridDim.z) {
    for (unsigned h = blockIdx.y; h < inner.height; h += gridDim.y) {
      const int64_t fh = h + top;
      const bool inside = fh >= 0 && fh < outer.height;
      const Unit* from_row =
          from + (int64_t{n} * outer.height + (inside ? fh : 0)) * outer.width * outer.channels;
      Unit* to_row = to + (int64_t{n} * inner.height + h) * row;
      for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < row;
           i += int64_t{gridDim.x} * kThreads) {
        const int64_t source = i + left * outer.channels;
        const bool there = inside && source >= 0 && source < outer.width * outer.channels;
        to_row[i] = there ? from_row[source] : Unit{};
      }
    }
  }
}

template <class Unit>
bool cut_in_units(const Tensor& from, int64_t top, int64_t left, Tensor& to) {
  const size_t channel_bytes = static_cast<size_t>(to.dim(3)) * size_of(to.dtype());
  if (channel_bytes % sizeof(Unit) != 0 || !aligned(from.raw(), sizeof(Unit)) ||
      !aligned(to.raw(), sizeof(Unit)))
    return false;
  const auto extents = [&](const Tensor& x) {
    return Extents{static_cast<unsigned>(x.dim(1)), static_cast<unsigned>(x.dim(2)),
                   static_cast<int64_t>(channel_bytes / sizeof(Unit))};
  };
  const Extents inner = extents(to);
  const dim3 grid(static_cast<unsigned>(ceil_div(inner.width * inner.channels, kThreads)),
                  std::min(inner.height, 65535u), static_cast<unsigned>(std::min<int64_t>(to.dim(0), 65535)));
  launch(cut<Unit>, grid, dim3(kThreads), 0, static_cast<const Unit*>(from.raw()), extents(from), top, left,
         static_cast<Unit*>(to.raw()), inner, static_cast<unsigned>(to.dim(0)));
  return true;
}

}  // namespace

void finish_convolution(const Tensor& bias, const Tensor& add, Activation activation, Tensor& y) {
  if (y.numel() == 0 || (!bias && !add && activation == Activation::None)) return;
  const int64_t O = y.dim(3), pixels = y.numel() / O;
  SINOPIA_CHECK(pixels < int64_t{1} << 31, Unsupported, "[cuda] a convolution with {} pixels", pixels);
  const bool images = add && add.rank() == 2;
  for_float(y.dtype(), [&](auto t) {
    for_float(bias ? bias.dtype() : y.dtype(), [&](auto b) {
      using T = decltype(t);
      using B = decltype(b);
      constexpr int kRun = 16 / sizeof(T);
      const Ending<T, B> ending{static_cast<const B*>(bias.raw()), static_cast<const T*>(add.raw()),
                                images ? static_cast<unsigned>(y.dim(1) * y.dim(2)) : 1, activation};
      T* const place = static_cast<T*>(y.raw());
      if (O % kRun == 0 && aligned(place, 16) && aligned(ending.add, 16)) {
        launch_finish<kRun>(ending, pixels, O, place);
      } else {
        launch_finish<1>(ending, pixels, O, place);
      }
    });
  });
}

void cut_images(const Tensor& from, int64_t top, int64_t left, Tensor& to) {
  if (to.numel() == 0) return;
  if (cut_in_units<uint4>(from, top, left, to) || cut_in_units<uint2>(from, top, left, to) ||
      cut_in_units<unsigned>(from, top, left, to))
    return;
  cut_in_units<unsigned short>(from, top, left, to);
}

}  // namespace sinopia::cuda
