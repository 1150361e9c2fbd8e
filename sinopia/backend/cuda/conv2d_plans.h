#pragma once

#include "sinopia/backend/cuda/cudnn_graph.h"

namespace sinopia::cuda {

/// How convolutions on GPUs are planned, for this process from now on.
struct Conv2dPlanning {
  /// Endings for which cuDNN has no kernel ready (activations, a number for each image) are compiled into the
  /// convolution: 1 to 4 seconds a problem, a pass over y less each time.
  bool fuse = false;
  /// The plans that cuDNN expects to be fastest are timed once for each problem, and the fastest is kept.
  /// What the clock says decides about roundings, then.
  bool measure = false;
  /// Convolutions of larger images than this many elements are done in parts; cuDNN counts in 32 bits.
  int64_t most_elements = (int64_t{1} << 31) - 1;
};
void set_conv2d_planning(const Conv2dPlanning& planning);
Conv2dPlanning conv2d_planning();

/// Plans made and convolutions run, fused ones among them, since the process started.
struct Conv2dPlanCounts {
  int64_t plans = 0, measured = 0, runs = 0, fused_runs = 0;
};
Conv2dPlanCounts conv2d_plan_counts();

/// x [N,H,W,I], w [O,I,KH,KW] and y [N,OH,OW,O] as a problem without an ending.
Convolution convolution_of(ConvolutionKind kind, const Shape& x, const Shape& w, const Shape& y,
                           const Conv2dOptions& options, DType dtype);

/// Queues a convolution with the plan that is kept for it, which is made the first time. False, without
/// having done anything, if cuDNN has none. May be recorded in a CUDA graph; nothing is timed then.
bool run_convolution(const Convolution& problem, const ConvolutionBuffers& buffers);

}  // namespace sinopia::cuda
