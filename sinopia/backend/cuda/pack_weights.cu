#include <algorithm>

#include "sinopia/backend/cuda/elements.h"
#include "sinopia/backend/cuda/packed_weights.h"
#include "sinopia/backend/cuda/runtime.h"

namespace sinopia::cuda {
namespace {

constexpr int kThreads = 256, kStaged = 4096;

/// A block moves the taps of `channels` neighbouring channels of one output, to or from the channel-last
/// order, through shared memory, so that both sides are read and written in runs. by_channel [O,I,taps],
/// by_tap [O,taps,I].
template <bool kToTaps, class From, class To>
__global__ void __launch_bounds__(kThreads)
    reorder(const From* from, To* to, int64_t I, int taps, int channels, int64_t blocks_per_output) {
  __shared__ float staged[kStaged];
  const int64_t o = blockIdx.x / blocks_per_output;
  const int64_t first = (blockIdx.x - o * blocks_per_output) * channels;
  const int here = static_cast<int>(I - first < channels ? I - first : channels), count = here * taps;
  const int64_t by_channel = (o * I + first) * taps, by_tap = o * taps * I + first;
  const auto tap_place = [&](int at) {  // of what lies at `at` in the order [taps, here]
    const int tap = at / here;
    return by_tap + tap * I + (at - tap * here);
  };
  for (int at = static_cast<int>(threadIdx.x); at < count; at += kThreads)
    staged[at] = widen(from[kToTaps ? by_channel + at : tap_place(at)]);
  __syncthreads();
  const int columns = kToTaps ? taps : here;  // of what is staged
  const int rows = kToTaps ? here : taps;
  for (int at = static_cast<int>(threadIdx.x); at < count; at += kThreads) {
    const int column = at / rows, row = at - column * rows;
    to[kToTaps ? tap_place(at) : by_channel + at] = narrow_to<To>(staged[row * columns + column]);
  }
}

/// The same for kernels of so many taps that those of a channel do not fit.
template <bool kToTaps, class From, class To>
__global__ void __launch_bounds__(kThreads)
    reorder_one_by_one(const From* from, To* to, int64_t I, int64_t taps, int64_t count) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= count) return;
  const int64_t columns = kToTaps ? I : taps, rows = kToTaps ? taps : I;  // of what is written
  const int64_t o = at / (I * taps), within = at - o * I * taps, row = within / columns;
  to[at] = narrow_to<To>(widen(from[o * I * taps + (within - row * columns) * rows + row]));
}

template <bool kToTaps>
void reorder_weights(const Tensor& from, Tensor& to, int64_t O, int64_t I, int64_t taps) {
  if (from.numel() == 0) return;
  for_float(from.dtype(), [&](auto f) {
    for_float(to.dtype(), [&](auto t) {
      using From = decltype(f);
      using To = decltype(t);
      const auto* x = static_cast<const From*>(from.raw());
      auto* y = static_cast<To*>(to.raw());
      if (taps > kStaged) {
        launch(reorder_one_by_one<kToTaps, From, To>,
               dim3(static_cast<unsigned>(ceil_div(from.numel(), kThreads))), dim3(kThreads), 0, x, y, I,
               taps, from.numel());
        return;
      }
      const int64_t channels = std::min({I, int64_t{kThreads}, kStaged / taps});
      const int64_t blocks = ceil_div(I, channels);
      launch(reorder<kToTaps, From, To>, dim3(static_cast<unsigned>(O * blocks)), dim3(kThreads), 0, x, y, I,
             taps, channels, blocks);
    });
  });
}

}  // namespace

void pack_weights(const Tensor& w, Tensor& packed) {
  reorder_weights<true>(w, packed, w.dim(0), w.dim(1), w.dim(2) * w.dim(3));
}

void unpack_weights(const Tensor& packed, Tensor& w) {
  reorder_weights<false>(packed, w, w.dim(0), w.dim(1), w.dim(2) * w.dim(3));
}

}  // namespace sinopia::cuda
