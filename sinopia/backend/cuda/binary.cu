#include <vector>

#include "sinopia/backend/axes.h"
#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/backend/cuda/divisor.h"
#include "sinopia/backend/cuda/map.h"

namespace sinopia {
namespace cuda {
namespace {

template <BinaryOp kOp>
struct BinaryFunction {
  __device__ float operator()(float a, float b) const {
    if constexpr (kOp == BinaryOp::Add) {
      return a + b;
    } else if constexpr (kOp == BinaryOp::Subtract) {
      return a - b;
    } else if constexpr (kOp == BinaryOp::Multiply) {
      return a * b;
    } else if constexpr (kOp == BinaryOp::Divide) {
      return a / b;
    } else {
      // A NaN on either side wins.
      const bool take_b = kOp == BinaryOp::Minimum ? b < a : a < b;
      return take_b || b != b ? b : a;
    }
  }
};

/// Where the runs of y find their operands. The first axis counts runs, and repeats neither or one operand
/// within a run; the others tell where its row starts.
struct Broadcast {
  int rank = 0;
  bool a_runs = false, b_runs = false;  ///< a run has a run of this operand, not one number
  Divisor extents[Shape::kMaxRank];
  int64_t a_steps[Shape::kMaxRank] = {}, b_steps[Shape::kMaxRank] = {};
};

template <class T, int kCount>
__device__ Run<T, kCount> load_operand(const T* from, bool runs) {
  if (runs) return load_run<T, kCount>(from);
  Run<T, kCount> run;
  const T value = *from;
#pragma unroll
  for (int k = 0; k < kCount; ++k) run.values[k] = value;
  return run;
}

template <int kCount, class F, class T>
__global__ void broadcast_kernel(F f, const T* a, const T* b, T* y, Broadcast at, int64_t runs) {
  const int64_t first = map_first();
  Run<T, kCount> in_a[kMapRuns], in_b[kMapRuns];
#pragma unroll
  for (int r = 0; r < kMapRuns; ++r) {
    int64_t rest = first + r * kMapThreads;
    if (rest >= runs) break;
    int64_t from_a = 0, from_b = 0;
#pragma unroll
    for (int k = 0; k < Shape::kMaxRank; ++k) {
      if (k >= at.rank) break;
      int64_t i = rest;
      rest = k + 1 < at.rank ? at.extents[k].divide(i) : 0;
      from_a += i * at.a_steps[k];
      from_b += i * at.b_steps[k];
    }
    in_a[r] = load_operand<T, kCount>(a + from_a, at.a_runs);
    in_b[r] = load_operand<T, kCount>(b + from_b, at.b_runs);
  }
#pragma unroll
  for (int r = 0; r < kMapRuns; ++r) {
    const int64_t run = first + r * kMapThreads;
    if (run >= runs) break;
    Run<T, kCount> out;
#pragma unroll
    for (int k = 0; k < kCount; ++k) out.values[k] = f(in_a[r].values[k], in_b[r].values[k]);
    store_run(y + run * kCount, out);
  }
}

template <class T, BinaryOp kOp>
void binary_run(const Tensor& a, const Tensor& b, Tensor& y) {
  using F = InFloat<T, BinaryFunction<kOp>>;
  const auto* pa = static_cast<const T*>(a.raw());
  const auto* pb = static_cast<const T*>(b.raw());
  auto* py = static_cast<T*>(y.raw());
  const std::vector<BroadcastAxis> axes = broadcast_axes(a.shape(), b.shape(), y.shape());
  const BroadcastAxis& inner = axes.front();
  if (axes.size() == 1 && inner.a_step != 0 && inner.b_step != 0)
    return map(F(), Inputs<T, 2>{{pa, pb}}, py, y.numel());

  const auto run = [&]<int kCount>(std::integral_constant<int, kCount>) {
    Broadcast at;
    at.rank = static_cast<int>(axes.size());
    at.a_runs = inner.a_step != 0;
    at.b_runs = inner.b_step != 0;
    for (size_t k = 0; k < axes.size(); ++k) {
      const int64_t in_run = k == 0 ? kCount : 1;
      at.extents[k] = Divisor(axes[k].extent / in_run);
      at.a_steps[k] = axes[k].a_step * in_run;
      at.b_steps[k] = axes[k].b_step * in_run;
    }
    const int64_t runs = y.numel() / kCount;
    launch(broadcast_kernel<kCount, F, T>, map_grid(runs), kMapThreads, 0, F(), pa, pb, py, at, runs);
  };
  // An operand that runs along the inner axis has whole runs between its rows, too.
  constexpr int kWide = run_length(sizeof(T));
  const bool wide = inner.extent % kWide == 0 && aligned({y.raw()}, 16) &&
                    (inner.a_step == 0 || aligned({a.raw()}, 16)) &&
                    (inner.b_step == 0 || aligned({b.raw()}, 16));
  if (wide) {
    run(std::integral_constant<int, kWide>());
  } else {
    run(std::integral_constant<int, 1>());
  }
}

}  // namespace
}  // namespace cuda

using namespace cuda;

void CudaKernels::binary(BinaryOp op, const Tensor& a, const Tensor& b, Tensor& y) {
  if (y.numel() == 0) return;
  for_float(y.dtype(), [&](auto type) {
    using T = decltype(type);
    switch (op) {
      case BinaryOp::Add:
        return binary_run<T, BinaryOp::Add>(a, b, y);
      case BinaryOp::Subtract:
        return binary_run<T, BinaryOp::Subtract>(a, b, y);
      case BinaryOp::Multiply:
        return binary_run<T, BinaryOp::Multiply>(a, b, y);
      case BinaryOp::Divide:
        return binary_run<T, BinaryOp::Divide>(a, b, y);
      case BinaryOp::Minimum:
        return binary_run<T, BinaryOp::Minimum>(a, b, y);
      case BinaryOp::Maximum:
        return binary_run<T, BinaryOp::Maximum>(a, b, y);
    }
  });
}

}  // namespace sinopia
